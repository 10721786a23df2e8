"""Telephone numbers: what a carrier wrote into E.164, and E.164 into what a carrier wants (core: text in, text out).

What arrives in a SIP user part is written by somebody else: with or without plus, national, with an international
prefix, a short code, a feature code, an extension, a name, a hidden caller, or nonsense. `to_e164` never raises;
it says which of these it is. Numbering plans are Google's (`phonenumbers`); nothing of them is repeated here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import phonenumbers
from phonenumbers import PhoneNumber, shortnumberinfo

Format = Literal["plus", "digits", "national", "raw"]
"""How a provider writes numbers: +447700900123, 447700900123, 07700900123, or untouched."""

MAX_LENGTH = 64  # E.164 has 15 digits; what is longer is no number and not worth a look
MAX_EXTENSION = 7  # digits; enterprise plans have 3 to 7
_ANONYMOUS = frozenset({"", "anonymous", "unknown", "unavailable", "restricted", "private", "withheld", "-", "none"})
_SEPARATORS = re.compile(r"[ ().\-/\u00a0]")
_DIGITS = re.compile(r"\+?[0-9]+")
_CODE = re.compile(r"[0-9+*#]*[*#][0-9+*#]*")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*")
_DIALLABLE = re.compile(r"[0-9A-Za-z+*#._-]+")


class Kind(StrEnum):
    """What a dialled or calling text is."""

    E164 = "e164"
    SHORT = "short"
    """A short code of the region's public network: 112, 911, 116117."""
    CODE = "code"
    """A feature code: *98, #31#."""
    EXTENSION = "extension"
    """Digits, too few for a public number."""
    NAME = "name"
    """sip:sales@..."""
    ANONYMOUS = "anonymous"
    """Nobody, or somebody who does not want to be known."""
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Number:
    """A text and what it is. `text` is +E.164 for that kind, without separators for the others."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text


def to_e164(text: str, region: str = "", *, international: bool = False) -> Number:
    """What a carrier or a PBX wrote, as E.164 where it is a public number. Never raises.

    Args:
        text: the user part of a SIP address, as it came.
        region: the trunk's default region (ISO 3166-1, as "GB") for numbers written nationally; "" for none.
        international: digits without a plus begin with the country code (a trunk whose `number_format` is digits):
            "6562345678" is then Singapore and not Minnesota.
    """
    if len(text) > MAX_LENGTH:
        return Number(Kind.MALFORMED, text)
    bare = text.strip().partition(";")[0]  # ;phone-context=, ;user=phone
    if bare.lower() in _ANONYMOUS:
        return Number(Kind.ANONYMOUS, "")
    dense = _SEPARATORS.sub("", bare)
    if _DIGITS.fullmatch(dense):
        return _digits(dense, region, international=international)
    if _CODE.fullmatch(dense):
        return Number(Kind.CODE, dense)
    if _NAME.fullmatch(bare):
        return Number(Kind.NAME, bare)
    return Number(Kind.MALFORMED, text)


def to_provider(number: str, form: Format, dial_prefix: str = "", region: str = "") -> str:
    """A number as the provider wants it dialled. What is not E.164 (extension, short code) stays as it is.

    Args:
        number: +E.164, or anything that can be dialled.
        form: the trunk's `number_format`.
        dial_prefix: put in front (a carrier's tech prefix, an outside line).
        region: for `national`: numbers of this region are written nationally, others with its international prefix.

    Raises:
        ValueError: the text holds something that has no place in a dial string.
    """
    if not _DIALLABLE.fullmatch(number):
        raise ValueError(f"{number!r} cannot be dialled: digits, +, * and #, or a name")
    if form != "raw" and number.startswith("+") and (parsed := _parsed(number, None)):
        digits = number[1:]
        if form == "digits":
            number = digits
        elif form == "national" and region:
            number = _dialled_in(parsed, region)
    return dial_prefix + number


def spellings(e164: str, region: str = "") -> tuple[str, ...]:
    """Every way a carrier may write a number of ours: with plus, digits, with 00, and as its region does."""
    forms = list(without_plus(e164))
    if region and (parsed := _parsed(e164, None)):
        forms.append(_dialled_in(parsed, region))
        if region in phonenumbers.region_codes_for_country_code(parsed.country_code or 0):
            forms.append(_national(parsed))
    return tuple(dict.fromkeys(forms))


def without_plus(text: str) -> tuple[str, str, str]:
    """+E.164, or the beginning of one, in the three ways it is written internationally."""
    digits = text.removeprefix("+")
    return f"+{digits}", digits, f"00{digits}"


def is_region(region: str) -> bool:
    """Whether there is a numbering plan of this name (ISO 3166-1, capitals)."""
    return region in phonenumbers.SUPPORTED_REGIONS


def _digits(text: str, region: str, *, international: bool) -> Number:
    if text.startswith("+"):
        parsed = _parsed(text, None)
        return _number(parsed) if parsed else Number(Kind.MALFORMED, text)
    if region and _is_short(text, region):
        return Number(Kind.SHORT, text)
    abroad = _parsed("+" + text.removeprefix("00"), None) if len(text) > MAX_EXTENSION else None
    here = _parsed(text, region) if region and _may_be_national(text, region) else None
    order = (abroad, here) if international or text.startswith("00") else (here, abroad)
    # Numbers that exist before numbers that merely have the right length.
    for test in (phonenumbers.is_valid_number, phonenumbers.is_possible_number):
        for parsed in order:
            if parsed and test(parsed):
                return _number(parsed)
    if len(text) <= MAX_EXTENSION:
        return Number(Kind.EXTENSION, text)
    return Number(Kind.MALFORMED, text)


def _parsed(text: str, region: str | None) -> PhoneNumber | None:
    """A number of a possible length that is the same when it is read again (nothing but zeros is not), else None."""
    try:
        parsed = phonenumbers.parse(text, region)
        again = phonenumbers.parse(_e164(parsed), None)
    except phonenumbers.NumberParseException:
        return None
    return parsed if phonenumbers.is_possible_number(parsed) and _e164(again) == _e164(parsed) else None


def _e164(parsed: PhoneNumber) -> str:
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _number(parsed: PhoneNumber) -> Number:
    return Number(Kind.E164, _e164(parsed))


def _is_short(text: str, region: str) -> bool:
    try:
        parsed = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return False
    return shortnumberinfo.is_valid_short_number_for_region(parsed, region)


def _may_be_national(text: str, region: str) -> bool:
    """Few digits are an extension, unless they begin as a national number does (0..., or a plan without prefix)."""
    prefix = phonenumbers.ndd_prefix_for_region(region, True)
    return len(text) > MAX_EXTENSION or not prefix or text.startswith(prefix)


def _dialled_in(parsed: PhoneNumber, region: str) -> str:
    """What somebody in the region dials: national there, with the international prefix elsewhere."""
    text = phonenumbers.format_out_of_country_calling_number(parsed, region)
    if region in phonenumbers.region_codes_for_country_code(parsed.country_code or 0):
        text = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
    return re.sub(r"[^0-9]", "", text)


def _national(parsed: PhoneNumber) -> str:
    """The national significant number: North America's ten digits."""
    return phonenumbers.national_significant_number(parsed)

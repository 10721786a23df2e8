"""Numbers as carriers and PBXs write them; whatever comes, the answer says what it is."""

from __future__ import annotations

import re

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.numbers import Kind, Number, is_region, spellings, to_e164, to_provider

LONDON = "+442079460123"


@pytest.mark.parametrize(
    ("text", "region", "e164"),
    [
        ("+442079460123", "", LONDON),
        ("442079460123", "GB", LONDON),
        ("442079460123", "US", LONDON),
        ("442079460123", "", LONDON),
        ("02079460123", "GB", LONDON),
        ("00442079460123", "GB", LONDON),
        ("00442079460123", "US", LONDON),
        ("011442079460123", "US", LONDON),
        ("+44 (20) 7946-0123", "", LONDON),
        (" +442079460123;phone-context=x", "", LONDON),
        ("2125550123", "US", "+12125550123"),
        ("12125550123", "US", "+12125550123"),
        ("12125550123", "GB", "+12125550123"),
        ("0891234567", "DE", "+49891234567"),
        ("22123456", "NO", "+4722123456"),
        ("0311234567", "JP", "+81311234567"),
        ("+39 06 1234 5678", "", "+390612345678"),
    ],
)
def test_public_numbers(text: str, region: str, e164: str) -> None:
    number = to_e164(text, region)
    assert (number.kind, number.text) == (Kind.E164, e164)


def test_digits_of_an_international_trunk_begin_with_the_country() -> None:
    assert to_e164("6562345678", "US").text == "+16562345678"
    assert to_e164("6562345678", "US", international=True).text == "+6562345678"


@pytest.mark.parametrize(
    ("text", "region", "kind"),
    [
        ("112", "GB", Kind.SHORT),
        ("911", "US", Kind.SHORT),
        ("116117", "DE", Kind.SHORT),
        ("401", "", Kind.EXTENSION),
        ("4012", "DE", Kind.EXTENSION),
        ("7512345", "US", Kind.EXTENSION),
        ("0", "GB", Kind.EXTENSION),
        ("*98", "US", Kind.CODE),
        ("#31#017712345678", "DE", Kind.CODE),
        ("sales", "", Kind.NAME),
        ("anonymous", "GB", Kind.ANONYMOUS),
        ("Anonymous", "GB", Kind.ANONYMOUS),
        ("", "GB", Kind.ANONYMOUS),
        ("Restricted", "GB", Kind.ANONYMOUS),
        ("+", "GB", Kind.MALFORMED),
        ("++442079460123", "", Kind.MALFORMED),
        ("+999123456789", "", Kind.MALFORMED),
        ("1&PJSIP/evil", "", Kind.MALFORMED),
        ("١٢٣٤٥٦٧٨٩", "EG", Kind.MALFORMED),
        ("9" * 30, "US", Kind.MALFORMED),
        ("+4420" * 5000, "GB", Kind.MALFORMED),
    ],
)
def test_everything_else_says_what_it_is(text: str, region: str, kind: Kind) -> None:
    assert to_e164(text, region).kind is kind


def test_nothing_but_zeros_is_no_number() -> None:
    """Read again, it would be another one: +4900000, +490000 ..."""
    assert to_e164("000000", "DE") == Number(Kind.EXTENSION, "000000")


REGIONS = st.sampled_from(["", "GB", "US", "DE", "IT", "NO", "JP", "XX"])


@given(st.text() | st.text(alphabet="+0123456789*# -().", max_size=30), REGIONS, st.booleans())
def test_garbage_is_told_and_never_raises(text: str, region: str, international: bool) -> None:
    number = to_e164(text, region, international=international)
    if number.kind is Kind.E164:
        assert re.fullmatch(r"\+[1-9][0-9]{3,16}", number.text)
        assert phonenumbers.is_possible_number(phonenumbers.parse(number.text))
        assert to_e164(number.text).text == number.text
    elif number.kind not in {Kind.MALFORMED, Kind.ANONYMOUS}:
        assert re.fullmatch(r"[0-9A-Za-z+*#._-]+", number.text)


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True), REGIONS, st.sampled_from(["plus", "digits"]))
def test_out_and_in_again_is_the_same_number(text: str, region: str, form: str) -> None:
    number = to_e164(text)
    if number.kind is Kind.E164:
        written = to_provider(number.text, form, region=region)  # type: ignore[arg-type]
        assert written.removeprefix("+") == number.text[1:]


@given(st.text(), st.sampled_from(["plus", "digits", "national", "raw"]), REGIONS)
def test_nothing_unfit_is_dialled(text: str, form: str, region: str) -> None:
    try:
        written = to_provider(text, form, "9", region)  # type: ignore[arg-type]
    except ValueError:
        return
    assert re.fullmatch(r"[0-9A-Za-z+*#._-]+", written)


@pytest.mark.parametrize(
    ("form", "region", "written"),
    [
        ("plus", "", "+442079460123"),
        ("digits", "", "442079460123"),
        ("national", "GB", "02079460123"),
        ("national", "US", "011442079460123"),
        ("raw", "GB", "+442079460123"),
    ],
)
def test_as_the_provider_wants_it(form: str, region: str, written: str) -> None:
    assert to_provider(LONDON, form, region=region) == written  # type: ignore[arg-type]
    assert to_provider(LONDON, form, "12345678*", region) == "12345678*" + written  # type: ignore[arg-type]


@pytest.mark.parametrize("number", ["401", "*98", "112", "sales"])
def test_what_is_not_public_is_dialled_as_it_is(number: str) -> None:
    for form in ("plus", "digits", "national", "raw"):
        assert to_provider(number, form, region="GB") == number  # type: ignore[arg-type]


@pytest.mark.parametrize("number", ["", "1&2", "1,2", "1 2", "1\n2", "${X}", "a@b", "1;2"])
def test_what_would_change_the_dialplan_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="cannot be dialled"):
        to_provider(number, "plus")


def test_every_spelling_of_our_number_leads_back_to_it() -> None:
    assert spellings("+12125550123", "US") == ("+12125550123", "12125550123", "0012125550123", "2125550123")
    assert set(spellings(LONDON, "GB")) == {LONDON, "442079460123", "00442079460123", "02079460123", "2079460123"}
    for region, e164 in (("GB", LONDON), ("US", "+12125550123"), ("NO", "+4722123456"), ("IT", "+390612345678")):
        for form in spellings(e164, region):
            assert to_e164(form, region).text == e164, form


def test_regions() -> None:
    assert is_region("GB")
    assert not is_region("UK")
    assert not is_region("")

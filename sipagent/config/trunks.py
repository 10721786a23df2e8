"""`[trunks.NAME]`: a carrier, a PBX, a phone. A preset gives the values, the operator the few that differ.

The preset's table lies under the operator's before anything is checked, so a `Trunk` holds what is in force. The
checks are those that would otherwise be found out by a call that fails, or by a stranger's call that does not:
who may come in (by address, by registration, by password), with which numbers, whether keys cross in clear.
"""

from __future__ import annotations

import difflib
import ipaddress
import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from sipagent import numbers, patterns
from sipagent.config.base import Section
from sipagent.config.presets import presets, under
from sipagent.numbers import Format, Kind, Number

NAME = re.compile(r"[a-z](?:-?[a-z0-9]|_(?!_)){0,39}")
"""Lower case, so that environment variables reach it; it is the PJSIP endpoint's name as well."""
MIN_PASSWORD = 12
"""Characters of a password that strangers may try (`accept`)."""
SHORTEST_PREFIX = {4: 8, 6: 16}
"""A wider network is a slip: one published guide has 168.100.64.0/1, half of the Internet."""
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[1-9]\d{0,4})?")
_PRINTABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_RESERVED = {"general", "global", "system", "anonymous", "acl", "contact", "domain_alias"}


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            hint = (
                ": a name is looked up only once, when Asterisk loads; give its addresses"
                if _HOST.fullmatch(text)
                else ""
            )
            raise ValueError(f"{text!r} is no network (192.0.2.0/24, 192.0.2.7, 2001:db8::/32){hint}") from None
        raise ValueError(f"{text!r} has host bits set; the network is {meant}") from None
    if network.prefixlen < SHORTEST_PREFIX[network.version]:
        raise ValueError(f"{text} lets a large part of the Internet in; is /{network.prefixlen} a slip?")
    return str(network)


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError(f"{text!r} is no host (sip.example.com, 192.0.2.7:5080)")
    return text


def _plain(text: str) -> str:
    if text and not _PRINTABLE.fullmatch(text):
        raise ValueError("must be printable ASCII without blanks at its ends")
    return text


def _secret(value: SecretStr) -> SecretStr:
    _plain(value.get_secret_value())
    return value


Network = Annotated[str, AfterValidator(_network)]
Host = Annotated[str, AfterValidator(_host)]
Codec = Literal["alaw", "ulaw", "g722"]


class TrunkAuth(Section):
    """Who proves what to whom."""

    kind: Literal["none", "digest", "register", "accept"] = "none"
    """none: known by address. digest: we answer their challenge. register: we register too, and calls in come by
    that. accept: they register with us, under the trunk's name."""
    user: Annotated[str, AfterValidator(_plain)] = ""
    password: Annotated[SecretStr, AfterValidator(_secret)] = SecretStr("")
    """Better from SIPAGENT_TRUNKS__NAME__AUTH__PASSWORD or a secrets file trunks__NAME__auth__password."""


class TrunkCallerId(Section):
    """Who we say calls, and whether we believe what they say."""

    header: Literal["from", "pai", "rpid"] = "from"
    """Where the caller's number stands in calls out: From alone, or P-Asserted-Identity or Remote-Party-ID too."""
    trust: bool = False
    """Believe their P-Asserted-Identity or Remote-Party-ID; only for who is known by address."""
    allow: tuple[str, ...] = ()
    """Numbers we may show in calls out; carriers block others."""
    default: str = ""
    """Shown where no other is asked for."""


class Trunk(Section):
    """One far end: what it is, how it is reached, who may come in by it."""

    preset: str
    hosts: tuple[Host, ...] = ()
    """Where calls out go, in order; the second is tried while the first does not answer OPTIONS."""
    transport: Literal["udp", "tcp", "tls", "ws"] = "udp"
    auth: TrunkAuth = TrunkAuth()
    networks: tuple[Network, ...] = ()
    """Where calls in may come from."""
    numbers: tuple[str, ...] = ()
    """Numbers of ours that may be dialled in by it, as in routes: E.164, 4xx as "_4XX" or "400-499", "+4420*", "*".
    A carrier's addresses serve all its customers, so what is not here gets 404. A public number stands once, in
    E.164; its other spellings are known."""
    number_format: Format = "plus"
    """How it writes numbers: plus (+44...), digits (44...), national (0...), raw."""
    region: str = ""
    """Where national numbers belong, as "GB"."""
    codecs: tuple[Codec, ...] = Field(("alaw", "ulaw"), min_length=1)
    srtp: Literal["off", "optional", "required", "dtls"] = "off"
    """SDES (optional, required) needs tls; dtls is for browsers."""
    caller_id: TrunkCallerId = TrunkCallerId()
    refer: Literal["never", "sip", "pstn", "pbx"] = "never"
    """Where a call may be handed on by REFER: nowhere, to SIP addresses, to numbers, to a PBX's extensions."""
    accept_refer: bool = False
    """Their users may ask us to go on with somebody else (REFER); with whom, dial_policy.allow says."""
    summary_header: str = Field("", pattern=r"^([Xx]-[A-Za-z0-9-]{1,60})?$")
    """A header of calls out that says who calls and why, after an agent's transfer, as "X-Summary": PBXs keep it."""
    channels: int = Field(30, ge=1, le=5000)
    """Calls in and out at once; the next one in gets 503."""
    cps: float = Field(5, gt=0, le=1000)
    """New calls out a second."""
    dial_prefix: str = Field("", pattern=r"^[0-9*#]*$")
    """In front of every number out: a tech prefix."""
    from_domain: Annotated[str, AfterValidator(lambda text: _host(text) if text else text)] = ""
    """The domain of From; empty: the first host where we log in, else our address."""
    prack: bool = True
    """False for far ends that stumble over 100rel."""
    symmetric_rtp: bool = True
    """Send our sound where theirs comes from, not where their SDP says: for far ends behind NAT. False where SDP is
    right, as with carriers: while a caller sends nothing, a stranger's packets could draw our sound away otherwise."""
    qualify: int = Field(60, ge=0, le=3600)
    """Seconds between OPTIONS to see whether it is there; 0: never."""

    @model_validator(mode="before")
    @classmethod
    def _over_its_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(name := given.get("preset"), str):
            return given
        if name not in presets():
            close = difflib.get_close_matches(name, presets(), n=1)
            raise ValueError(f"preset: there is no {name!r}; {f'did you mean {close[0]!r}? ' if close else ''}"
                             f"There is {', '.join(presets())}")  # fmt: skip
        return under(name, given)

    @field_validator("region")
    @classmethod
    def _is_a_region(cls, value: str) -> str:
        if value and not numbers.is_region(value):
            raise ValueError('a country of ISO 3166-1 in capitals, as "GB", "US", "DE"')
        return value

    @field_validator("numbers")
    @classmethod
    def _are_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            patterns.compiled(text)
            if len(text) == 1 and text.isalpha():
                raise ValueError(f"{text!r}: single letters are Asterisk's own extensions")
            if is_number(text) and numbers.to_e164(text).kind in {Kind.ANONYMOUS, Kind.MALFORMED}:
                raise ValueError(f"{text!r} is no number; public ones are written in E.164, as +442079460123")
        return value

    @model_validator(mode="after")
    def _hangs_together(self) -> Trunk:
        kind, login = self.auth.kind, self.auth
        if self.srtp in {"optional", "required"} and self.transport != "tls":
            raise ValueError(f'srtp: SDES keys would cross in clear over {self.transport}; set transport = "tls"')
        if (self.srtp == "dtls") != (self.transport == "ws"):
            raise ValueError('srtp: "dtls" and transport = "ws" belong together')
        if kind in {"digest", "register"}:
            if not self.hosts:
                raise ValueError(f"hosts: preset {self.preset} needs to know where calls out go")
            if not login.user:
                raise ValueError(f"auth.user: preset {self.preset} logs in ({kind})")
        if kind != "none" and not login.password.get_secret_value():
            raise ValueError(f"auth.password: needed for {kind}; SIPAGENT_TRUNKS__NAME__AUTH__PASSWORD, or a file "
                             "trunks__NAME__auth__password in the secrets folder")  # fmt: skip
        if kind == "accept":
            if len(login.password.get_secret_value()) < MIN_PASSWORD:
                raise ValueError(f"auth.password: strangers may try it: {MIN_PASSWORD} characters or more")
            if self.hosts:
                raise ValueError("hosts: it registers with us, which tells where it is")
        elif not self.hosts and not self.numbers:
            raise ValueError("numbers: neither numbers for calls in nor hosts for calls out: no call can use it")
        if kind in {"none", "digest"} and self.numbers and not self.networks:
            raise ValueError(f"networks: preset {self.preset} brings none, and calls in are known by their address")
        if self.caller_id.trust and not self.networks:
            raise ValueError("caller_id.trust: only who is known by address can be believed; set networks")
        if self.number_format == "national" and not self.region:
            raise ValueError("region: national numbers of which country?")
        return self._with_caller_ids()

    def _with_caller_ids(self) -> Trunk:
        shown = self.caller_id
        for text in (*shown.allow, *filter(None, (shown.default,))):
            if self.e164(text).kind not in {Kind.E164, Kind.EXTENSION, Kind.SHORT}:
                raise ValueError(f"caller_id.{'allow' if text in shown.allow else 'default'}: {text!r} is no number")
        if shown.default and shown.allow and shown.default not in shown.allow:
            raise ValueError(f"caller_id.default: {shown.default!r} is not among caller_id.allow")
        return self

    def e164(self, text: str) -> Number:
        """A number as this trunk writes it."""
        return numbers.to_e164(text, self.region, international=self.number_format == "digits")

    def out(self, number: str) -> str:
        """A number as this trunk wants it dialled; ValueError when it cannot be."""
        return numbers.to_provider(number, self.number_format, self.dial_prefix, self.region)


def is_number(pattern: str) -> bool:
    """One number, not a pattern of several."""
    return not (pattern.startswith("_") or pattern.endswith("*") or re.fullmatch(r"\d+-\d+", pattern))


def dialled(trunk: Trunk) -> tuple[str, ...]:
    """The trunk's numbers as they may come in: patterns as they are, public numbers in every spelling."""
    out: list[str] = []
    for text in trunk.numbers:
        if not is_number(text):
            mark, body = ("_", text[1:]) if text.startswith("_") else ("", text)
            out += [mark + form for form in numbers.without_plus(body)] if body.startswith("+") else [text]
            continue
        number = trunk.e164(text)
        out += numbers.spellings(number.text, trunk.region) if number.kind is Kind.E164 else [text]
    return tuple(dict.fromkeys(out))


def neighbours(name: str, trunks: Mapping[str, Trunk]) -> tuple[str, ...]:
    """Other trunks of the same networks (accounts at one carrier): Asterisk cannot tell them apart by address."""

    def addresses(trunk: Trunk) -> set[str]:
        return set() if trunk.auth.kind == "accept" else set(trunk.networks)

    mine = addresses(trunks[name])
    return tuple(other for other, trunk in trunks.items() if other != name and mine & addresses(trunk))


def check(trunks: Mapping[str, Trunk], phone_user: str, tls: bool) -> None:
    """What one trunk alone cannot know.

    Raises:
        ValueError: ``trunks.NAME.key: what is wrong``.
    """
    for name, trunk in trunks.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"trunks.{name}: a trunk's name is lower-case letters, digits, dashes, 40 at most")
        if name in _RESERVED or name.startswith("transport-") or name.endswith("-endpoint"):
            raise ValueError(f"trunks.{name}: Asterisk has a section of that name; take another")
        if name == phone_user:
            raise ValueError(f"trunks.{name}: asterisk.phone_user has that name already")
        if trunk.auth.kind == "accept" and trunk.auth.user not in {"", name}:
            raise ValueError(f"trunks.{name}.auth.user: it registers under the trunk's name, {name!r}; leave it out")
        if trunk.transport == "tls" and not tls:
            raise ValueError(f"trunks.{name}.transport: tls needs [asterisk] tls_port, tls_certificate and tls_key")
    for (one, first), (two, second) in itertools.combinations(trunks.items(), 2):
        _check_pair(one, first, two, second)


def _check_pair(one: str, first: Trunk, two: str, second: Trunk) -> None:
    """Two trunks that an address may both mean must be accounts of one carrier, with numbers of their own."""
    if first.auth.kind == second.auth.kind == "accept":
        return  # told apart by name and password
    shared = set(first.networks) & set(second.networks)
    for mine, theirs in itertools.product(first.networks, second.networks):
        a, b = ipaddress.ip_network(mine), ipaddress.ip_network(theirs)
        if a.version == b.version and a.overlaps(b) and (mine != theirs or first.preset != second.preset):
            raise ValueError(f"trunks.{two}.networks: {theirs} overlaps {mine} of trunk {one!r}; who comes from there?")
    both = set(dialled(first)) & set(dialled(second))
    if shared and both:
        raise ValueError(f"trunks.{two}.numbers: {min(both)} is trunk {one!r}'s as well, of the same networks")

"""The XML that SIPp gets: well formed, every jump has its place, nothing of the caller's leaks out of it."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree as ET

import pytest

from sipagent.audio import Law
from sipagent.errors import ConfigError
from sipagent.phone.phone import parse_target
from sipagent.phone.scenario import Caller, scenario


def caller(law: Law = Law.ALAW, host: str = "192.0.2.9") -> Caller:
    return Caller("sip:600@192.0.2.1:5060", "phone", "s3cret", law, host, 40000)


def test_every_jump_has_its_label() -> None:
    tree = ET.fromstring(scenario(caller()))
    labels = [element.get("id") for element in tree.iter("label")]
    assert len(labels) == len(set(labels))
    targets = {element.get("next") for element in tree.iter() if element.get("next")}
    assert targets <= set(labels)


def test_we_can_hang_up_wherever_the_call_waits() -> None:
    """Each list of optional messages ends in our command, or in the first response it must wait for."""
    elements = list(ET.fromstring(scenario(caller())))
    for element, following in itertools.pairwise(elements):
        if element.get("optional") and following.tag not in ("recv", "label"):
            assert following.tag == "recvCmd"


@pytest.mark.parametrize(("law", "codec"), [(Law.ALAW, "8 PCMA"), (Law.ULAW, "0 PCMU")])
def test_the_offer_is_one_law_and_digits(law: Law, codec: str) -> None:
    text = scenario(caller(law))
    assert f"m=audio 40000 RTP/AVP {codec[0]} 101\n" in text
    assert f"a=rtpmap:{codec}/8000\n" in text
    assert "c=IN IP4 192.0.2.9\n" in text


def test_ipv6_media() -> None:
    assert "c=IN IP6 2001:db8::1\n" in scenario(caller(host="2001:db8::1"))


def test_the_password_is_in_the_digest_alone_and_not_in_the_repr() -> None:
    text = scenario(caller())
    assert text.count("s3cret") == 1
    assert "[authentication username=phone password=s3cret]" in text
    assert "s3cret" not in repr(caller())


@pytest.mark.parametrize(
    ("number", "target"),
    [
        ("600", ("600", "192.0.2.1", 5070)),
        ("+49 89 1", None),
        (" +49891 ", ("+49891", "192.0.2.1", 5070)),
        ("*98", ("*98", "192.0.2.1", 5070)),
        ("sip:sales@pbx.test", ("sales", "pbx.test", 5060)),
        ("sales@pbx.test:5080", ("sales", "pbx.test", 5080)),
        ("sip:1@[2001:db8::1]:5080", ("1", "2001:db8::1", 5080)),
        ("sip:1@pbx.test;transport=udp", ("1", "pbx.test", 5060)),
        ("", None),
        ("sip:pbx.test", None),
        ("[field0]", None),
        ("1\r\nX: y", None),
        ("a@b@c", None),
    ],
)
def test_what_can_be_dialled(number: str, target: tuple[str, str, int] | None) -> None:
    if target is None:
        with pytest.raises(ConfigError, match="no number and no SIP address"):
            parse_target(number, "192.0.2.1:5070")
    else:
        assert parse_target(number, "192.0.2.1:5070") == target

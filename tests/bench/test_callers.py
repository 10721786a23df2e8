"""What is read from SIPp's short messages."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from bench.callers import Signalling, read_trace, scenario

# As SIPp wrote it, but for the refusal: one call with digest that the caller ended, one refused, one hung up on.
TRACE = """\
2026-11-24	14:50:30.388789	100.000000	S	1-28261	CSeq:1 INVITE	INVITE sip:100@127.0.0.1:22145 SIP/2.0
2026-11-24	14:50:30.389162	100.001000	R	1-28261	CSeq:1 INVITE	SIP/2.0 401 Unauthorized
2026-11-24	14:50:30.389203	100.001100	S	1-28261	CSeq:1 ACK	ACK sip:100@127.0.0.1:22145 SIP/2.0
2026-11-24	14:50:30.390470	100.002000	S	1-28261	CSeq:2 INVITE	INVITE sip:100@127.0.0.1:22145 SIP/2.0
2026-11-24	14:50:30.392532	100.004000	R	1-28261	CSeq:2 INVITE	SIP/2.0 180 Ringing
2026-11-24	14:50:30.397389	100.009000	R	1-28261	CSeq:2 INVITE	SIP/2.0 200 OK
2026-11-24	14:50:30.397451	100.009100	S	1-28261	CSeq:2 ACK	ACK sip:127.0.0.1:22145 SIP/2.0
2026-11-24	14:50:30.489511	100.100000	S	3-28261	CSeq:1 INVITE	INVITE sip:100@127.0.0.1:22145 SIP/2.0
2026-11-24	14:50:30.497723	100.110000	R	3-28261	CSeq:2 INVITE	SIP/2.0 200 OK
2026-11-24	14:50:30.539511	100.150000	S	2-28261	CSeq:1 INVITE	INVITE sip:100@127.0.0.1:22145 SIP/2.0
2026-11-24	14:50:30.539902	100.151000	R	2-28261	CSeq:2 INVITE	SIP/2.0 503 Service Unavailable
2026-11-24	14:50:32.903872	102.000000	S	1-28261	CSeq:3 BYE	BYE sip:127.0.0.1:22145 SIP/2.0
2026-11-24	14:50:32.904293	102.001000	R	1-28261	CSeq:3 BYE	SIP/2.0 200 OK
2026-11-24	14:50:32.993872	102.100000	R	3-28261	CSeq:7 BYE	BYE sip:phone@127.0.0.1:22146 SIP/2.0
2026-11-24	14:50:32.993972	102.100100	S	3-28261	CSeq:7 BYE	SIP/2.0 200 OK
"""


def test_a_call_begins_with_its_first_invite_and_ends_by_whoever_says_bye(tmp_path: Path) -> None:
    file = tmp_path / "messages.log"
    file.write_text(TRACE)
    assert read_trace(file) == [
        Signalling(0, 100.0, 100.009, bye_by="caller", bye_at=102.0),
        Signalling(1, 100.15, None, refused="503 Service Unavailable"),
        Signalling(2, 100.1, 100.11, bye_by="far end", bye_at=102.1),
    ]


def test_the_scenario_is_xml_and_a_tag_is_given_back_inside_the_dialog_only() -> None:
    tree = ET.fromstring(scenario(("phone", "x"), "sip:100@127.0.0.1", 2))
    sends = [(send.text or "").lstrip() for send in tree.iter("send")]
    assert ["peer_tag_param" in text for text in sends if text.startswith("INVITE")] == [False, False]
    assert all("peer_tag_param" in text for text in sends if text.startswith(("BYE", "ACK [next_url]")))

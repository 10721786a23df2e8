"""Asterisk's JSON: what we act on, what we pass over, what is none."""

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.ari import events

# As Asterisk 22.10 sends it, shortened by fields that nobody reads.
CHANNEL = {
    "id": "1795459859.1",
    "name": "PJSIP/phone-00000001",
    "state": "Ring",
    "protocol_id": "1-3@127.0.0.1",
    "caller": {"name": "", "number": "phone"},
    "connected": {"name": "", "number": ""},
    "dialplan": {
        "context": "sipagent",
        "exten": "s",
        "priority": 6,
        "app_name": "Stasis",
        "app_data": "sipagent-1,in,100",
    },
    "creationtime": "2026-11-23T18:51:00.000+0000",
    "language": "en",
}


def test_stasis_start() -> None:
    text = json.dumps({"type": "StasisStart", "application": "sipagent-1", "args": ["in", "100"], "channel": CHANNEL})
    event = events.parse(text)
    assert isinstance(event, events.StasisStart)
    assert (event.channel.id, event.args, event.channel.dialplan.app_data) == (
        "1795459859.1",
        ["in", "100"],
        "sipagent-1,in,100",
    )


def test_hangup_request_without_a_cause() -> None:
    event = events.parse(json.dumps({"type": "ChannelHangupRequest", "channel": CHANNEL}))
    assert event == events.ChannelHangupRequest(events.parse_channels(json.dumps([CHANNEL]))[0], None)


def test_rest_response() -> None:
    text = '{"type":"RESTResponse","request_id":"7","status_code":204,"reason_phrase":"No Content","uri":"x"}'
    assert events.parse(text) == events.RestResponse("7", 204, "No Content", "")


KEY = '{"type":"ChannelDtmfReceived","digit":"%s","channel":{"id":"1"},"timestamp":"%s","duration_ms":100}'


def test_key() -> None:
    key = events.parse(KEY % ("5", "2026-11-27T13:57:52.123+0000"))
    assert isinstance(key, events.ChannelDtmfReceived)
    assert (key.digit, key.duration_ms) == ("5", 100)
    assert key.timestamp == dt.datetime(2026, 11, 27, 13, 57, 52, 123_000, dt.UTC)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"type":"ChannelVarset","variable":"X"}', "ChannelVarset"),
        ('{"type":"StasisStart","args":5}', "StasisStart"),
        ('{"type":"ChannelDtmfReceived","digit":"5","channel":{"id":"1"}}', "ChannelDtmfReceived"),
        (KEY % ("", "2026-11-27T13:57:52.123+0000"), "ChannelDtmfReceived"),
        (KEY % ("5", "2026-11-27T13:57:52.123"), "ChannelDtmfReceived"),
        ("{}", ""),
        ("[1]", ""),
        ("", ""),
    ],
)
def test_the_rest_is_passed_over_by_name(text: str, named: str) -> None:
    assert events.parse(text) == events.Unread(named)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_garbage_never_raises(data: bytes | str) -> None:
    events.parse(data)


@given(
    st.sampled_from(["StasisStart", "StasisEnd", "ChannelDtmfReceived", "RESTResponse", "ChannelDestroyed"]),
    st.dictionaries(
        st.sampled_from(["channel", "args", "digit", "timestamp", "status_code", "request_id", "cause"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2) | st.just(CHANNEL),
    ),
)
def test_fields_of_any_shape_never_raise(kind: str, fields: dict[str, object]) -> None:
    events.parse(json.dumps({"type": kind, **fields}))

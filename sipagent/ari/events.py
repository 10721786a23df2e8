"""Asterisk's JSON into typed events (core: text in, values out).

Only what a call acts on is typed. Everything else Asterisk may send parses to None, and so does
garbage; the client counts both. Field names are ARI's.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated

import msgspec


class CallerId(msgspec.Struct, frozen=True):
    """ARI `CallerID`."""

    name: str = ""
    number: str = ""


class DialplanCep(msgspec.Struct, frozen=True):
    """ARI `DialplanCEP`: where a channel stands in the dialplan."""

    context: str = ""
    exten: str = ""
    app_name: str = ""
    app_data: str = ""


class Channel(msgspec.Struct, frozen=True):
    """ARI `Channel`, the part we read."""

    id: str
    name: str = ""
    state: str = ""
    caller: CallerId = CallerId()
    dialplan: DialplanCep = DialplanCep()
    channelvars: dict[str, str] = {}


class RequestedDestination(msgspec.Struct, frozen=True):
    """ARI `RequiredDestination`, the part we read: the user part of Refer-To, and a Replaces header's dialog."""

    destination: str = ""
    protocol_id: str = ""


class ReferredBy(msgspec.Struct, frozen=True):
    """ARI `ReferredBy`, the part we read."""

    source_channel: Channel


class StasisStart(msgspec.Struct, frozen=True, tag_field="type", tag="StasisStart"):
    """A channel came to our application."""

    channel: Channel
    args: list[str] = []
    application: str = ""


class StasisEnd(msgspec.Struct, frozen=True, tag_field="type", tag="StasisEnd"):
    """A channel left it: hang-up, or moved on. For channels that came by the dialplan this is the last word."""

    channel: Channel


class ChannelHangupRequest(msgspec.Struct, frozen=True, tag_field="type", tag="ChannelHangupRequest"):
    """Somebody wants the channel down; carries the Q.850 cause."""

    channel: Channel
    cause: int | None = None


class ChannelDestroyed(msgspec.Struct, frozen=True, tag_field="type", tag="ChannelDestroyed"):
    """A channel is gone."""

    channel: Channel
    cause: int = 0
    cause_txt: str = ""


class ChannelStateChange(msgspec.Struct, frozen=True, tag_field="type", tag="ChannelStateChange"):
    """Its state changed: "Up" is answered."""

    channel: Channel


class ChannelDtmfReceived(msgspec.Struct, frozen=True, tag_field="type", tag="ChannelDtmfReceived"):
    """A key, reported when it is let go (RFC 4733 never reaches the RTP leg), and by times once more: see `keys`."""

    channel: Channel
    digit: Annotated[str, msgspec.Meta(min_length=1, max_length=1)]
    timestamp: Annotated[dt.datetime, msgspec.Meta(tz=True)]
    duration_ms: int = 0


class ChannelHold(msgspec.Struct, frozen=True, tag_field="type", tag="ChannelHold"):
    """Its far end holds the call (RFC 3264, 8.4: a re-INVITE with sendonly or inactive)."""

    channel: Channel


class ChannelUnhold(msgspec.Struct, frozen=True, tag_field="type", tag="ChannelUnhold"):
    """Its far end is back."""

    channel: Channel


class ReferTo(msgspec.Struct, frozen=True):
    """ARI `ReferTo`, the part we read."""

    requested_destination: RequestedDestination = RequestedDestination()


class ChannelTransfer(msgspec.Struct, frozen=True, tag_field="type", tag="ChannelTransfer"):
    """Its far end asks us to talk to somebody else (REFER), where PJSIP_TRANSFER_HANDLING is ari-only.

    `source` (ARI: referred_by) is the channel that asks.
    """

    referred_by: ReferredBy
    refer_to: ReferTo = ReferTo()

    @property
    def channel(self) -> Channel:
        """Whose event it is."""
        return self.referred_by.source_channel

    @property
    def user(self) -> str:
        """The number asked for."""
        return self.refer_to.requested_destination.destination


class ApplicationReplaced(msgspec.Struct, frozen=True, tag_field="type", tag="ApplicationReplaced"):
    """Another socket registered our application's name and took our events."""

    application: str = ""


class RestResponse(msgspec.Struct, frozen=True, tag_field="type", tag="RESTResponse"):
    """Answer to a request sent over the events socket."""

    request_id: str
    status_code: int
    reason_phrase: str = ""
    message_body: str = ""


@dataclass(frozen=True, slots=True)
class ChannelLost:
    """Not Asterisk's: said by the client when a channel is gone after the socket was away."""

    channel: Channel


ChannelEvent = (
    ChannelLost
    | StasisStart
    | StasisEnd
    | ChannelHangupRequest
    | ChannelDestroyed
    | ChannelStateChange
    | ChannelDtmfReceived
    | ChannelHold
    | ChannelUnhold
    | ChannelTransfer
)
Event = (
    StasisStart
    | StasisEnd
    | ChannelHangupRequest
    | ChannelDestroyed
    | ChannelStateChange
    | ChannelDtmfReceived
    | ChannelHold
    | ChannelUnhold
    | ChannelTransfer
    | ApplicationReplaced
    | RestResponse
)


@dataclass(frozen=True, slots=True)
class Unread:
    """A message we do not act on: `type` as Asterisk named it, empty for garbage."""

    type: str


class _Head(msgspec.Struct):
    type: str = ""


_EVENT: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_HEAD = msgspec.json.Decoder(_Head)


def parse(data: str | bytes) -> Event | Unread:
    """One text frame of the events socket; never raises for what the network may bring."""
    try:
        return _EVENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return Unread(_HEAD.decode(data).type)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Unread("")


_CHANNELS = msgspec.json.Decoder(list[Channel])


def parse_channels(body: str) -> list[Channel]:
    """The answer of ``GET /channels``."""
    return _CHANNELS.decode(body)

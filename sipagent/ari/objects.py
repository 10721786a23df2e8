"""Handles: a channel's or a bridge's id together with the client, so a call reads like a call.

We choose every id ourselves, so a listener can stand before the thing exists. Deleting what is already
gone is not an error: hang-up races with everything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import msgspec

from sipagent.ari import events
from sipagent.ari.client import AriClient, ChannelEvents, made_for, new_id
from sipagent.errors import AriError, AriRefused, AriUnavailable

STASIS_START_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ChannelHandle:
    """One channel."""

    ari: AriClient
    id: str

    async def ring(self) -> None:
        """180 Ringing towards the caller."""
        await self.ari.request("POST", f"channels/{self.id}/ring")

    async def progress(self) -> None:
        """183 Session Progress: heard before the answer."""
        await self.ari.request("POST", f"channels/{self.id}/progress")

    async def answer(self) -> None:
        """200 OK."""
        await self.ari.request("POST", f"channels/{self.id}/answer")

    async def variable(self, name: str) -> str:
        """A channel variable or dialplan function; empty when unset."""
        try:
            answer = await self.ari.request("GET", f"channels/{self.id}/variable", {"variable": name})
        except AriRefused as error:
            if error.status == 404:
                return ""
            raise
        return str(answer.get("value", ""))

    async def sip_header(self, name: str) -> str:
        """A header of the INVITE that brought this channel; empty where there is none."""
        try:
            return await self.variable(f"PJSIP_HEADER(read,{name})")
        except AriRefused as error:
            if error.status == 500:  # how Asterisk says that a function has nothing to give
                return ""
            raise

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable."""
        await self.ari.request("POST", f"channels/{self.id}/variable", {"variable": name, "value": value})

    async def rtp_statistics(self) -> dict[str, float]:
        """Asterisk's figures of this channel's RTP: every field that is a number, none where there is no such thing.

        Refused with 404 from the moment the caller hangs up (the channel is gone before its last event comes),
        so ask while the call is up: Asterisk renews the losses with its RTCP report, every 5 s.
        """
        try:
            answer = await self.ari.request("GET", f"channels/{self.id}/rtp_statistics")
        except AriRefused as error:
            if error.status == 404:
                return {}
            raise
        except msgspec.DecodeError:
            return {}
        if not isinstance(answer, dict):
            return {}
        return {name: float(value) for name, value in answer.items() if isinstance(value, int | float)}

    async def transfer_progress(self, state: str) -> None:
        """Tell whoever asked by REFER how it goes, by NOTIFY (RFC 3515, 2.4.5).

        `state`: channel_progress, channel_answered, channel_unavailable or channel_declined.
        """
        await self.ari.request("POST", f"channels/{self.id}/transfer_progress", {"states": state})

    async def send_dtmf(self, digits: str) -> None:
        """Press keys towards the far end, as it understands them (RFC 4733 by default)."""
        await self.ari.request("POST", f"channels/{self.id}/dtmf", {"dtmf": digits})

    async def watch_elsewhere(self) -> None:
        """Have its events told also while it is in the dialplan."""
        await self.ari.request(
            "POST", f"applications/{self.ari.app}/subscription", {"eventSource": f"channel:{self.id}"}
        )

    async def continue_in(self, context: str, extension: str = "s") -> None:
        """Leave the application for the dialplan."""
        await self.ari.request(
            "POST", f"channels/{self.id}/continue", {"context": context, "extension": extension, "priority": "1"}
        )

    async def hang_up(self, cause: int) -> None:
        """Release the channel with a Q.850 cause; nothing happens when it is gone already."""
        await _delete(self.ari, f"channels/{self.id}", {"reason_code": str(cause)})


@dataclass(frozen=True, slots=True)
class BridgeHandle:
    """One mixing bridge."""

    ari: AriClient
    id: str

    async def add(self, *channels: ChannelHandle) -> None:
        """Put channels in; with two of them Asterisk forwards packets as they come."""
        await self.ari.request("POST", f"bridges/{self.id}/addChannel", {"channel": ",".join(c.id for c in channels)})


@dataclass(frozen=True, slots=True)
class ExternalMedia:
    """An ExternalMedia channel and where it listens for our RTP."""

    channel: ChannelHandle
    address: tuple[str, int]


@contextlib.asynccontextmanager
async def mixing_bridge(ari: AriClient, channel_id: str) -> AsyncIterator[BridgeHandle]:
    """A bridge for a channel, for the length of the block; its name says which application made it."""
    its_id = new_id(channel_id, "bridge")
    try:  # asking is part of it: who is cancelled before the answer comes has a bridge all the same
        await ari.request("POST", f"bridges/{its_id}", {"type": "mixing,dtmf_events", "name": ari.app})
        yield BridgeHandle(ari, its_id)
    finally:
        await _delete(ari, f"bridges/{its_id}")


async def drop_bridges(ari: AriClient, channel_id: str, *keep: str) -> None:
    """What `mixing_bridge` made for this channel elsewhere goes, and with it who is in there, but for `keep`."""
    for bridge in await ari.request("GET", "bridges"):
        if made_for(bridge["id"]) == channel_id:
            for other in set(bridge["channels"]) - {channel_id, *keep}:
                await ChannelHandle(ari, other).hang_up(16)
            await _delete(ari, f"bridges/{bridge['id']}")


@contextlib.asynccontextmanager
async def external_media(
    ari: AriClient, call_id: str, *, host: str, port: int, audio_format: str, variables: Mapping[str, str]
) -> AsyncIterator[ExternalMedia]:
    """An ExternalMedia channel for a call that sends its RTP to `host`:`port`, for the length of the block.

    The request answers before the channel is in our application, and adding it to a bridge then is refused
    with 422: so its StasisStart is awaited.
    """
    channel = ChannelHandle(ari, new_id(call_id, "media"))
    with ari.listen(channel.id) as happenings:
        try:
            await ari.request(
                "POST",
                "channels/externalMedia",
                {
                    "channelId": channel.id,
                    "app": ari.app,
                    "external_host": f"{host}:{port}",
                    "format": audio_format,
                    "encapsulation": "rtp",
                    "transport": "udp",
                },
                {"variables": dict(variables)},
            )
            await until_started(happenings, ari)
            address = await channel.variable("UNICASTRTP_LOCAL_ADDRESS")
            local_port = await channel.variable("UNICASTRTP_LOCAL_PORT")
            if not (address and local_port.isdigit()):
                raise AriUnavailable("Asterisk gave no UNICASTRTP_LOCAL_ADDRESS: is chan_rtp.so loaded?")
            yield ExternalMedia(channel, (address, int(local_port)))
        finally:
            await channel.hang_up(16)


@dataclass(frozen=True, slots=True)
class Snoop:
    """A channel that hears what another hears or says, and what happens to it."""

    channel: ChannelHandle
    happenings: ChannelEvents


@contextlib.asynccontextmanager
async def snoop(channel: ChannelHandle, *, spy: str) -> AsyncIterator[Snoop]:
    """A snoop on a channel for the length of the block. `spy`: in (what it says), out (what it hears) or both.

    It copies frames as they pass; the channel's bridge stays as it is.
    """
    ari = channel.ari
    handle = ChannelHandle(ari, new_id(channel.id, "snoop"))
    with ari.listen(handle.id) as happenings:
        try:
            await ari.request(
                "POST", f"channels/{channel.id}/snoop/{handle.id}", {"spy": spy, "app": ari.app, "appArgs": "snoop"}
            )
            await until_started(happenings, ari)
            yield Snoop(handle, happenings)
        finally:
            await handle.hang_up(16)


async def until_started(happenings: ChannelEvents, ari: AriClient) -> None:
    """The request that makes a channel answers before the channel is in our application."""
    try:
        async with asyncio.timeout(STASIS_START_TIMEOUT_S):
            while not isinstance(await happenings.next(), events.StasisStart):
                pass
    except TimeoutError:
        raise AriUnavailable(
            f"{happenings.channel_id} did not reach {ari.app} in {STASIS_START_TIMEOUT_S:g} s"
        ) from None


async def _delete(ari: AriClient, uri: str, query: Mapping[str, str] | None = None) -> None:
    """DELETE that accepts "not there": the far end may have been faster, or Asterisk may be away."""
    try:
        await ari.request("DELETE", uri, query)
    except AriRefused as error:
        if error.status not in {404, 409}:
            raise
    except AriError:
        # Asterisk is away: resync or its own restart cleans up; the count is the client's.
        ari.counts["deletes_unanswered"] += 1

"""One socket to Asterisk: events in, REST requests out over the same socket, reconnection with resync.

The application dials Asterisk (``/ari/events?app=NAME``); while the socket is up `Stasis(NAME)` in the
dialplan reaches us, while it is down the dialplan goes on at once. Asterisk repeats nothing after a
reconnection, so the client asks ``GET /channels`` and tells each listener whose channel is gone.
It refuses to know what a call is: events go to whoever listens to that channel, StasisStart of a
channel nobody listens to goes to `on_call`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
import structlog

from sipagent.ari import events
from sipagent.ari.keys import Keys
from sipagent.errors import AriRefused, AriUnavailable
from sipagent.meter import Meter

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 5.0
"""Measured answers take 0.1 to 7 ms; an Asterisk that needs seconds is in trouble."""
CONNECT_TIMEOUT_S = 5.0
HEARTBEAT_S = 5.0
"""WebSocket pings: a dead Asterisk host is noticed within two of them."""
BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Waits between attempts; the last one repeats. Short: every second away is a second of refused calls."""

UNREAD = (
    *("ChannelVarset", "ChannelEnteredBridge", "ChannelLeftBridge", "ChannelConnectedLine", "ChannelDialplan"),
    *("BridgeCreated", "BridgeDestroyed", "Dial"),
)
"""Events that nobody here reads and Asterisk tells all the same, 2 kB each; most often of a variable that we set."""
MINIMUM_VERSION = (22, 5)
MINIMUM_TEXT = "22.5"
"""REST over the events socket and the transfer events."""


OnCall = Callable[[events.StasisStart], None]
OnOrphan = Callable[[events.Channel], None]


def new_id(channel_id: str, kind: str) -> str:
    """Of a bridge, a media channel, a snoop that is made for a channel: one that was never there before.

    Asterisk may know a bridge for half a second after its DELETE, and refuses a second of that id with 409: who takes
    over the call of a worker that died, or makes anew what has just gone, must not wait for that.
    """
    return f"{channel_id}-{kind}-{secrets.token_hex(4)}"


def made_for(bridge_id: str) -> str:
    """The channel for which `mixing_bridge` made this bridge."""
    return bridge_id.rpartition("-bridge-")[0]


class ChannelEvents:
    """What happens to one channel, in order. Open it before the channel is made and nothing is missed."""

    def __init__(self, channel_id: str) -> None:
        self.channel_id = channel_id
        self._queue: asyncio.Queue[events.ChannelEvent] = asyncio.Queue()
        self._keys = Keys()

    def knows(self, event: events.ChannelEvent) -> bool:
        """It is a key that was delivered before."""
        if not isinstance(event, events.ChannelDtmfReceived):
            return False
        return not self._keys.is_new(event.digit, event.duration_ms, event.timestamp.timestamp() * 1000)

    def deliver(self, event: events.ChannelEvent) -> None:
        """Called by the client."""
        self._queue.put_nowait(event)

    async def next(self) -> events.ChannelEvent:
        """The next event of this channel."""
        return await self._queue.get()


class AriClient:
    """The worker's connection to its Asterisk; `run` owns the socket, `request` may be called by anybody."""

    def __init__(
        self, *, url: str, app: str, username: str, password: str, on_call: OnCall, on_orphan: OnOrphan
    ) -> None:
        self.app = app
        self.connected = False
        self.version = ""
        self.trouble = "not connected yet"
        """Why `connected` is false, for readyz and the log."""
        self.answers = Meter(0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
        """How long requests took."""
        self.counts: Counter[str] = Counter()
        """Events skipped by type, keys that were told twice, reconnections, requests that timed out."""
        self._url = url.rstrip("/") + "/ari"
        self._headers = {"Authorization": aiohttp.encode_basic_auth(username, password)}
        self._on_call = on_call
        self._on_orphan = on_orphan
        self.on_replaced: Callable[[], None] = lambda: None
        """Another process has registered our application, and has its events from now on."""
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._listeners: dict[str, ChannelEvents] = {}
        self._pending: dict[str, asyncio.Future[events.RestResponse]] = {}
        self._request_ids = itertools.count(1)

    # --- life of the socket

    async def run(self) -> None:
        """Keep the socket up until cancelled."""
        async with aiohttp.ClientSession(headers=self._headers) as http:
            attempts = 0
            while True:
                try:
                    async with http.ws_connect(
                        self._url + "/events?" + urlencode({"app": self.app}),
                        heartbeat=HEARTBEAT_S,
                        compress=0,
                        max_msg_size=0,
                        timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                    ) as socket:
                        attempts = 0
                        await self._serve(socket)
                except aiohttp.WSServerHandshakeError as error:
                    self.trouble = _explain_handshake(error, self._url)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    self.trouble = f"cannot reach Asterisk at {self._url}: {error or type(error).__name__}"
                log.warning("ari_disconnected", app=self.app, trouble=self.trouble, attempt=attempts)
                self.counts["reconnects"] += 1
                await asyncio.sleep(BACKOFF_S[min(attempts, len(BACKOFF_S) - 1)])
                attempts += 1

    async def drop(self) -> None:
        """Close the socket as a network would; `run` opens the next one."""
        if self._socket is not None:
            await self._socket.close()

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        reader = asyncio.create_task(self._read(socket), name="ari-read")
        try:
            await self._greet()
            await self._resync()
            self.connected, self.trouble = True, ""
            log.info("ari_connected", app=self.app, asterisk=self.version)
            await reader
            self.trouble = "Asterisk closed the events socket"
        except AriUnavailable as error:
            self.trouble = str(error)
        finally:
            self.connected, self._socket = False, None
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(AriUnavailable("the events socket closed while a request was under way"))
            self._pending.clear()

    async def _greet(self) -> None:
        """The first request: it tells whether this Asterisk can do what we need."""
        try:
            info = await self.request("GET", "asterisk/info")
        except AriUnavailable as error:
            raise AriUnavailable(
                f"{error}: an Asterisk older than {MINIMUM_TEXT} takes no requests over the events socket"
            ) from None
        self.version = str(info.get("system", {}).get("version", ""))
        found = re.match(r"(\d+)\.(\d+)", self.version)  # none in a build from git: taken on trust
        if found and (int(found[1]), int(found[2])) < MINIMUM_VERSION:
            raise AriUnavailable(f"Asterisk {self.version} is too old: {MINIMUM_TEXT} or later is needed")
        unread = {"disallowed": [{"type": name} for name in UNREAD]}
        try:
            await self.request("PUT", f"applications/{self.app}/eventFilter", body=unread)
        except AriRefused as error:  # then we read over them
            log.warning("ari_events_unfiltered", app=self.app, error=str(error))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._dispatch(events.parse(message.data))
            else:
                self.counts["binary_frames"] += 1

    async def _resync(self) -> None:
        """Tell listeners whose channel died or came back, report channels of others or of nobody, drop bridges."""
        listeners = list(self._listeners.items())  # not one that comes while Asterisk answers
        channels = {c.id: c for c in await self.channels()}
        for channel_id, listener in listeners:
            if channel_id not in channels:
                listener.deliver(events.ChannelLost(events.Channel(id=channel_id)))
        for channel in channels.values():
            if channel.dialplan.app_name != "Stasis":
                continue
            owner, *args = channel.dialplan.app_data.split(",")
            if (owned := self._listeners.get(channel.id)) is None:
                self._on_orphan(channel)
            elif owner == self.app:
                # Its StasisStart may have been lost; who has heard it before knows what to make of it.
                owned.deliver(events.StasisStart(channel, args, self.app))
        for bridge in await self.request("GET", "bridges"):
            # Made by `mixing_bridge` under our name, for a call that nobody here has.
            if bridge["name"] == self.app and made_for(bridge["id"]) not in self._listeners:
                with contextlib.suppress(AriRefused):
                    await self.request("DELETE", f"bridges/{bridge['id']}")

    # --- events

    def listens(self, channel_id: str) -> bool:
        """Somebody here hears this channel's events."""
        return channel_id in self._listeners

    @contextlib.contextmanager
    def listen(self, channel_id: str) -> Iterator[ChannelEvents]:
        """Events of one channel, from now to the end of the block."""
        listener = self._listeners[channel_id] = ChannelEvents(channel_id)
        try:
            yield listener
        finally:
            del self._listeners[channel_id]

    def _dispatch(self, event: events.Event | events.Unread) -> None:
        match event:
            case events.RestResponse():
                future = self._pending.pop(event.request_id, None)
                if future is None or future.done():
                    self.counts["late_responses"] += 1
                else:
                    future.set_result(event)
            case events.ApplicationReplaced():
                log.error(
                    "ari_application_replaced",
                    app=self.app,
                    mend="another process registered this application name: is a second sipagent running?",
                )
                self.on_replaced()
            case events.Unread():
                self.counts[f"unread:{event.type or 'garbage'}"] += 1
            case _:
                if listener := self._listeners.get(event.channel.id):
                    if listener.knows(event):
                        self.counts["keys_told_twice"] += 1
                    else:
                        listener.deliver(event)
                elif isinstance(event, events.StasisStart):
                    self._on_call(event)

    # --- requests

    async def request(
        self,
        method: str,
        uri: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """One REST request over the events socket; the decoded JSON body, or {} when there is none.

        Raises AriRefused with Asterisk's own words for a status of 400 or more, AriUnavailable when there
        is no socket or no answer within `timeout_s` (REQUEST_TIMEOUT_S unless given).
        """
        return msgspec.json.decode(
            await self._request(method, uri, query, body, timeout_s or REQUEST_TIMEOUT_S) or "{}"
        )

    async def channels(self) -> list[events.Channel]:
        """Every channel Asterisk has now."""
        return events.parse_channels(await self._request("GET", "channels", None, None, REQUEST_TIMEOUT_S) or "[]")

    async def _request(
        self, method: str, uri: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None, timeout_s: float
    ) -> str:
        socket = self._socket
        if socket is None or socket.closed:
            raise AriUnavailable(f"{method} {uri}: no connection to Asterisk ({self.trouble})")
        request_id = str(next(self._request_ids))
        message: dict[str, Any] = {"type": "RESTRequest", "request_id": request_id, "method": method, "uri": uri}
        if query:
            message["query_strings"] = [{"name": name, "value": value} for name, value in query.items()]
        if body is not None:
            message["content_type"] = "application/json"
            message["message_body"] = msgspec.json.encode(body).decode()
        future = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        asked_s = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                await socket.send_str(msgspec.json.encode(message).decode())
                response: events.RestResponse = await future
            self.answers.observe(time.monotonic() - asked_s)
        except TimeoutError:
            self.counts["request_timeouts"] += 1
            raise AriUnavailable(f"{method} {uri}: no answer from Asterisk in {timeout_s:g} s") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise AriUnavailable(f"{method} {uri}: {error}") from error
        finally:
            self._pending.pop(request_id, None)
        if response.status_code >= 400:
            raise AriRefused(method, uri, response.status_code, _refusal_text(response))
        return response.message_body


def _refusal_text(response: events.RestResponse) -> str:
    with contextlib.suppress(msgspec.DecodeError):
        body = msgspec.json.decode(response.message_body)
        if isinstance(body, dict) and "message" in body:
            return str(body["message"])
    return response.reason_phrase


def _explain_handshake(error: aiohttp.WSServerHandshakeError, url: str) -> str:
    if error.status in {401, 403}:
        return (
            f"Asterisk at {url} refused our ARI user or password (HTTP {error.status}): "
            "compare ari.conf with [asterisk] in sipagent.toml"
        )
    if error.status == 404:
        return f"no ARI at {url} (HTTP 404): is this Asterisk's HTTP port, and are res_ari and res_ari_events loaded?"
    return f"Asterisk at {url} refused the events socket: HTTP {error.status}"

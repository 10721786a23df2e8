"""A switch on the wire for the worker to talk to: the part of ARI that a call needs. It is not Asterisk.

It takes the worker's events socket, answers its REST requests as Asterisk 22 does (the shapes in
`sipagent/ari`), lets calls come in at an even rate and gives each ExternalMedia channel the load generator's
UDP port of that call. While calls merely talk it answers one question a call every ten seconds.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Self

from aiohttp import WSMsgType, web

from sipagent.errors import ToolError

APP = "sipagent-1"
"""What the first worker registers."""
CALL = "bench-{}"
_MEDIA = re.compile(CALL.format(r"(\d+)") + "-media-.+")

Started = Callable[[int, int], None]
"""`started(call, port)`: the worker hears this call's RTP at this port."""


class Switch:
    """`async with Switch(...)`; one worker, one run."""

    def __init__(self, caller_ports: Sequence[int], on_media: Started) -> None:
        self.port = 0
        self.connected = asyncio.Event()
        """The worker's events socket stands and its first questions are answered."""
        self.refused: Counter[str] = Counter()
        """Requests it has no answer for, by their shape: there should be none."""
        self.live: set[int] = set()
        """Calls whose channel is there."""
        self._caller_ports, self._on_media = caller_ports, on_media
        self._socket: web.WebSocketResponse | None = None
        self._empty = asyncio.Event()
        app = web.Application()
        app.router.add_get("/ari/events", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def ring(self, call: int) -> None:
        """A call comes in."""
        self.live.add(call)
        self._empty.clear()
        channel = _channel(CALL.format(call), f"PJSIP/bench-{call:08x}", caller=str(1000 + call))
        args = ["in", "100", "bench", "ulaw", f"{call}@bench", "100"]  # as extensions.conf has them
        await self._tell("StasisStart", channel=channel, args=args)

    async def hang_up_all(self, timeout_s: float) -> None:
        """Every caller leaves; returns when the worker has cleared up, ToolError when it does not."""
        for call in list(self.live):
            channel = _channel(CALL.format(call), f"PJSIP/bench-{call:08x}")
            await self._tell("ChannelHangupRequest", channel=channel, cause=16)
            await self._tell("StasisEnd", channel=channel)
            await self._tell("ChannelDestroyed", channel=channel, cause=16, cause_txt="Normal Clearing")
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            raise ToolError(f"{len(self.live)} calls are not cleared up {timeout_s:g} s after they hung up") from None

    # --- the wire

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        self._socket = socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self._answer(json.loads(message.data))
        return socket

    async def _tell(self, kind: str, **facts: object) -> None:
        if self._socket is not None and not self._socket.closed:
            head = {"type": kind, "timestamp": "2026-01-01T00:00:00.000+0000", "application": APP, "asterisk_id": "b"}
            await self._socket.send_str(json.dumps(head | facts))

    async def _answer(self, asked: dict[str, Any]) -> None:
        method, uri = asked["method"], asked["uri"]
        query = {pair["name"]: pair["value"] for pair in asked.get("query_strings", ())}
        status, body = self._act(method, uri, query)
        response = {"request_id": asked["request_id"], "status_code": status, "reason_phrase": "", "uri": uri}
        if body is not None:
            response |= {"content_type": "application/json", "message_body": json.dumps(body)}
        await self._tell("RESTResponse", **response)
        if uri == "channels/externalMedia":
            # As Asterisk does: the channel enters the application after the request is answered.
            channel = _channel(query["channelId"], f"UnicastRTP/{query['external_host']}-0x7f0000000000")
            await self._tell("StasisStart", channel=channel, args=[])

    def _act(self, method: str, uri: str, query: dict[str, str]) -> tuple[int, object]:
        match method, uri.split("/"):
            case "GET", ["asterisk", "info"]:
                return 200, {"system": {"version": "22.5.0 (a stub)"}}
            case "GET", ["channels"]:
                return 200, []
            case "GET", ["bridges"]:
                self.connected.set()
                return 200, []
            case "POST", ["channels", "externalMedia"]:
                call = _MEDIA.fullmatch(query["channelId"])
                if call is None:
                    return 400, {"message": "no channel of ours"}
                self._on_media(int(call[1]), int(query["external_host"].rpartition(":")[2]))
                return 200, _channel(query["channelId"], "UnicastRTP/bench")
            case "GET", ["channels", channel_id, "variable"] if call := _MEDIA.fullmatch(channel_id):
                port = str(self._caller_ports[int(call[1])])
                return 200, {"value": port if query["variable"].endswith("_PORT") else "127.0.0.1"}
            case "GET", ["channels", _, "variable"]:
                return 200, {"value": ""}
            case "GET", ["channels", channel_id, "rtp_statistics"]:
                return 200, {"channel_uniqueid": channel_id, "rxcount": 500, "txcount": 500, "rtt": 0.001}
            case "PUT", ["applications", name, "eventFilter"]:
                return 200, {"name": name}  # nothing of it is told anyway
            case "POST", ["bridges", bridge_id]:
                return 200, {"id": bridge_id, "name": query.get("name", ""), "bridge_type": "mixing", "channels": []}
            case ("POST", ["channels", _, "ring" | "answer" | "variable"]) | ("POST", ["bridges", _, "addChannel"]):
                return 204, None
            case "DELETE", ["channels" | "bridges", name]:
                if "-bridge-" in name:  # the last thing of a call to go
                    self.live.discard(int(name.split("-")[1]))
                    if not self.live:
                        self._empty.set()
                return 204, None
            case _:
                self.refused[re.sub(r"bench-\d+", "*", f"the switch cannot {method} {uri}")] += 1
                return 404, {"message": "not in this stub"}


def _channel(channel_id: str, name: str, caller: str = "") -> dict[str, object]:
    return {
        "id": channel_id,
        "name": name,
        "state": "Ring",
        "caller": {"name": "", "number": caller},
        "connected": {"name": "", "number": ""},
        "dialplan": {"context": "sipagent", "exten": "100", "priority": 3, "app_name": "Stasis", "app_data": APP},
        "creationtime": "2026-01-01T00:00:00.000+0000",
        "language": "en",
        "channelvars": {},
    }

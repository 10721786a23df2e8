"""The bridge most people would write first: correct at a few calls, and what this project is measured against.

asyncio's own datagram endpoint and websockets' own client for each call, json, a queue and a task for each
direction, `asyncio.sleep(0.02)` between frames. It flushes on speech_started and truncates. Run by the
benchmark as a process of its own:

    python bench/naive.py URL FIRST_PORT CALLS
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import sys
from typing import Any, cast

import websockets

FRAME_BYTES = 160
SILENCE = b"\xff" * FRAME_BYTES


class Caller(asyncio.DatagramProtocol):
    """One call's RTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.to_model: asyncio.Queue[bytes] = asyncio.Queue()
        self.to_caller: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.address: Any = None
        self.item_id, self.played_ms = "", 0
        self.sequence = self.timestamp = 0
        self.call: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The endpoint stands."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """The first packet starts the call."""
        if self.address is None:
            self.address = addr
            self.call = asyncio.create_task(self.run())
        self.to_model.put_nowait(data[12:])

    async def run(self) -> None:
        """Dial the model, then both directions until it hangs up."""
        with contextlib.suppress(websockets.ConnectionClosed):
            async with websockets.connect(self.url) as socket:
                await configure(socket)
                await asyncio.gather(self.send(socket), self.receive(socket), self.play())

    async def send(self, socket: websockets.ClientConnection) -> None:
        """The caller's frames to the model."""
        while True:
            audio = base64.b64encode(await self.to_model.get()).decode()
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))

    async def receive(self, socket: websockets.ClientConnection) -> None:
        """The model's audio into the queue."""
        dead = False
        async for message in socket:
            event = json.loads(message)
            if event["type"] == "response.created":
                dead = False
            elif event["type"] == "response.output_audio.delta" and not dead:
                audio = base64.b64decode(event["delta"])
                for start in range(0, len(audio), FRAME_BYTES):
                    self.to_caller.put_nowait((event["item_id"], audio[start : start + FRAME_BYTES]))
            elif event["type"] == "input_audio_buffer.speech_started" and not self.to_caller.empty():
                dead = True
                while not self.to_caller.empty():
                    self.to_caller.get_nowait()
                await socket.send(
                    json.dumps(
                        {
                            "type": "conversation.item.truncate",
                            "item_id": self.item_id,
                            "content_index": 0,
                            "audio_end_ms": self.played_ms,
                        }
                    )
                )

    async def play(self) -> None:
        """A frame to the caller every 20 ms, silence where there is nothing else, as the others do."""
        while True:
            try:
                item_id, audio = self.to_caller.get_nowait()
            except asyncio.QueueEmpty:
                item_id, audio = self.item_id, SILENCE
            else:
                if item_id != self.item_id:
                    self.item_id, self.played_ms = item_id, 0
                self.played_ms += 20
            head = struct.pack("!BBHII", 0x80, 0, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, 1)
            self.transport.sendto(head + audio, self.address)
            self.sequence += 1
            self.timestamp += FRAME_BYTES
            await asyncio.sleep(0.02)


async def configure(socket: websockets.ClientConnection) -> None:
    """G.711 both ways; returns when the model has agreed."""
    audio_format = {"format": {"type": "audio/pcmu"}}
    session = {"audio": {"input": audio_format, "output": audio_format}}
    await socket.send(json.dumps({"type": "session.update", "session": session}))
    while json.loads(await socket.recv())["type"] != "session.updated":
        pass


async def main(url: str, first_port: int, calls: int) -> None:
    """Listen at a port for each call."""
    loop = asyncio.get_running_loop()
    for call in range(calls):
        await loop.create_datagram_endpoint(lambda: Caller(url), ("127.0.0.1", first_port + 2 * call))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

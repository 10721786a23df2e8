"""What a worker and its toolbox say to each other: msgspec structs as msgpack, each behind its length.

The socket is a pair made by the worker, so nobody else can speak on it, and either side sees at once when the
other is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

MAX_BYTES = 16_000_000
"""Of one message; a tool's output is bounded far below it."""
MAX_OUTPUT_CHARS = 16_000
"""What a model is told at most: about 4000 tokens, a minute's delay if it were read aloud."""
_LENGTH_BYTES = 4


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """The tools from now on; calls of an earlier `generation` keep theirs. `tools` is JSON, secrets and all."""

    generation: int
    tools: bytes
    folder: str
    """Where Python modules and programs of the operator lie: beside sipagent.toml."""


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Run one; answered by one `Returned` of the same id."""

    id: int
    generation: int
    call_id: str
    tool: str
    arguments: dict[str, Any]
    variables: Mapping[str, str]
    traceparent: str = ""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody waits for this one any more; no `Returned` follows, or a late one."""

    id: int


class Offered(msgspec.Struct, frozen=True):
    """A function that can be called now."""

    name: str
    tool: str
    """The tool of the configuration behind it: for MCP servers another name."""
    description: str
    parameters: dict[str, Any]

    def wire(self) -> dict[str, Any]:
        """The entry of `session.tools`: flat, as every client sends it."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }


class Offer(msgspec.Struct, frozen=True, tag="offer"):
    """All functions of a generation, and why others are missing. Comes again when that changes."""

    generation: int
    functions: tuple[Offered, ...]
    problems: dict[str, str]


class Returned(msgspec.Struct, frozen=True, tag="returned"):
    """How a call went: `output` for the model, or `error`, a text that the model can read."""

    id: int
    output: str
    error: str
    duration_ms: float
    bytes: int
    """Of the answer before anything was picked from it."""


Downward = Configure | Call | Cancel
Upward = Offer | Returned
M = TypeVar("M")


def frame(message: Downward | Upward) -> bytes:
    """A message as it goes on the wire."""
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


async def read(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[M]) -> M:
    """The next message.

    Raises:
        EOFError: the other side is gone; also when what comes is none of its messages.
    """
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > MAX_BYTES:
            raise EOFError(f"a message of {length} bytes")
        return decoder.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError("the other side is gone") from error
    except msgspec.DecodeError as error:
        raise EOFError(f"garbled: {error}") from error

"""Python tools of a made-up shop, as an operator would write them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sipagent.tools import CallFacts, ToolFailed


@dataclass
class Order:
    number: str
    status: str


def order_status(order: Annotated[str, Field(description="As the caller said it.")], detail: bool = False) -> Order:
    """Where an order is.

    Only this shop's.
    """
    if order == "0":
        raise ToolFailed("no such order")
    return Order(order, "sent" if not detail else "sent yesterday")


async def weather(city: Literal["Leeds", "York"], call: CallFacts) -> dict[str, str]:
    """The weather."""
    return {"city": city, "caller": call.variables.get("caller", ""), "call": call.call_id}


def breaks() -> None:
    """Fails."""
    raise RuntimeError("the password is hunter2")


def sleeps(seconds: float) -> str:
    """Blocks its thread."""
    time.sleep(seconds)
    return "slept"


async def waits(seconds: float) -> str:
    """Takes its time."""
    await asyncio.sleep(seconds)
    return "waited"


def long(chars: int) -> str:
    """Says much."""
    return "x" * chars


def half() -> str:
    """Says half of a smiley."""
    return "sent \ud83d"


def unhinted(order) -> str:  # type: ignore[no-untyped-def]
    """No hint."""
    return str(order)


async def marks(path: str) -> str:
    """Takes for ever, and writes down when it is cancelled."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        Path(path).write_text("cancelled")
        raise
    return "never"

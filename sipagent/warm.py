"""Before a warm transfer: the agent tells a colleague who calls and why, and they take the call or do not.

By key or by voice: 1 or "yes" takes it, 2 or "no" does not. Where the model cannot be had, a prompt asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sipagent.audio import Law
from sipagent.config import Agent
from sipagent.conversation import Conversation
from sipagent.errors import RealtimeError
from sipagent.flow.phrases import Phrase
from sipagent.house import House
from sipagent.leg import ANSWERED, Leg
from sipagent.room import Room
from sipagent.xai.events import FunctionCall

DECIDE_S = 40.0
MODEL_S = 2.5
"""How long somebody who has just said hello waits for the agent; then the prompt asks."""
TAKE, REFUSE = "1", "2"
DECLINED = "declined"
_INSTRUCTIONS = """\
You are an assistant who has rung up a colleague. A caller is waiting on the other line.
Who calls: {caller}. What they want: {summary}
You have just asked whether the colleague takes the call. Answer what they ask, in one short sentence each.
When they agree, call accept_call; when they do not, call decline_call. Say nothing after that.
"""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the colleague is told."""

    caller: str
    summary: str
    agent: Agent


async def ask(leg: Leg, offer: Offer, law: Law, house: House) -> str:
    """Ask somebody who has answered; ANSWERED when they take the call, else why not. Their leg stays as it is."""
    room = Room(law, house)
    decided: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    conversation = Conversation(
        room,
        offer.agent.model_copy(update={"greeting": ""}),
        house.policy,
        _untold,
        call_id=leg.channel.id,
        instructions=_INSTRUCTIONS.format(caller=offer.caller or "unknown", summary=offer.summary or "not said"),
        tools=(_tool("accept_call", "The colleague takes the call."), _tool("decline_call", "They do not.")),
    )

    def decide(word: str) -> None:
        if not decided.done():
            decided.set_result(word)

    def on_function(call: FunctionCall) -> bool:
        if call.name not in {"accept_call", "decline_call"}:
            return False
        decide(ANSWERED if call.name == "accept_call" else DECLINED)
        return True

    conversation.talk.on_function = on_function
    keys = asyncio.create_task(_keys(leg, decide))
    try:
        conversation.dial()
        await room.open(leg.channel.id)
        await room.let_in(leg.channel)
        try:
            async with asyncio.timeout(MODEL_S):
                await conversation.ready()
            conversation.talk.say(_question(offer))
        except (TimeoutError, RealtimeError):
            call = house.settings.call
            room.play([Phrase(call.warm_question, call.language)])
        async with asyncio.timeout(DECIDE_S):
            return await decided
    except TimeoutError:
        return "no decision"
    finally:
        keys.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keys
        await conversation.close()
        await room.close()


def _question(offer: Offer) -> str:
    who = f"from {offer.caller}" if offer.caller else "from a hidden number"
    return (
        f"Hello, I have a call for you {who}. {offer.summary} Do you take it? Say yes, or press 1. To decline, press 2."
    )


async def _keys(leg: Leg, decide: Any) -> None:
    while (key := await leg.next_key()) is not None:
        if key in {TAKE, REFUSE}:
            decide(ANSWERED if key == TAKE else DECLINED)
            return
    decide("hung up")


def _tool(name: str, description: str) -> Mapping[str, Any]:
    parameters = {"type": "object", "properties": {}}
    return {"type": "function", "name": name, "description": description, "parameters": parameters}


def _untold(*_: object, **__: object) -> None:
    """What is said to the colleague is no part of the caller's call."""

"""What an agent may do with the call itself: hand the caller over, hang up.

The model asks; what happens is what the operator has listed. A hand-over to a queue, a menu or a mailbox goes on in
the flow. A phone rings while the agent waits: the caller hears the ringing (or music, where the agent speaks with
the colleague first), and when nobody takes the call the agent is told why and goes on talking.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import structlog

from sipagent import away, model
from sipagent.ari.objects import ChannelHandle
from sipagent.config import Agent
from sipagent.config.transfers import Transfer
from sipagent.conversation import Builtin, Conversation
from sipagent.flow.machine import ToDial
from sipagent.flow.steps.dial import target_of
from sipagent.house import House
from sipagent.leg import ANSWERED, Leg, second_leg
from sipagent.room import Room
from sipagent.routing.legs import dial_string, shown_number
from sipagent.talk import Emit
from sipagent.tones import looped
from sipagent.warm import Offer, ask

log = structlog.get_logger()

StepOut = Callable[[away.Place], Awaitable[str]]
SUMMARY_CHARS = 500
SPOKEN_OUT_S = 8.0
"""How long a ring waits for the agent's sentence to end."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody has taken the call; `undo` lets go of their leg."""

    name: str
    leg: Leg
    undo: AsyncExitStack


class CallControl:
    """One conversation's hands."""

    def __init__(
        self, call_id: str, caller: str, room: Room, agent: Agent, house: House, emit: Emit, step_out: StepOut
    ) -> None:
        """`step_out` sends the caller to a place of the dialplan and returns its word, the room being kept."""
        self._call_id, self._caller, self._step_out = call_id, caller, step_out
        self._room, self._agent, self._house, self._emit = room, agent, house, emit
        self._conversation: Conversation | None = None
        self._legs = 0

    def serve(self, conversation: Conversation) -> None:
        """The conversation it is for."""
        self._conversation = conversation

    # --- what the model may call

    def builtins(self) -> dict[str, Builtin]:
        """What this agent may do, by the name of the function."""
        out: dict[str, Builtin] = {}
        if self._agent.transfers:
            places = self._house.settings.transfers
            known = "; ".join(f"{name}: {places[name].description}" for name in self._agent.transfers)
            out["transfer_call"] = Builtin(
                f"Hand the caller over. Tell them first. Places: {known}",
                {
                    "type": "object",
                    "properties": {
                        "target": {"type": "string", "enum": list(self._agent.transfers)},
                        "summary": {"type": "string", "description": "Who calls and what they want, in a sentence."},
                    },
                    "required": ["target"],
                },
                self._transfer_call,
            )
        if self._agent.may_hang_up:
            out["hang_up"] = Builtin(
                "End the call. Only when the caller wants nothing more and goodbye has been said.",
                {"type": "object", "properties": {}},
                self._hang_up,
            )
        return out

    async def _hang_up(self, _arguments: Mapping[str, Any]) -> dict[str, Any]:
        await self._spoken_out()
        self._leave(model.CallOutcome(model.Reason.COMPLETED, "the agent hung up"))
        return {"status": "hanging up"}

    async def _transfer_call(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        target = str(arguments.get("target", ""))
        if target not in self._agent.transfers:
            return {"error": f"there is no {target!r}; you may transfer to {', '.join(self._agent.transfers)}"}
        return await self._transfer(target, str(arguments.get("summary", ""))[:SUMMARY_CHARS])

    # --- transfers

    async def _transfer(self, name: str, summary: str) -> dict[str, Any]:
        transfer = self._house.settings.transfers[name]
        self._emit(model.TransferStarted, target=name, how=transfer.how if transfer.to.kind == "dial" else "flow")
        await self._spoken_out()
        if transfer.to.kind != "dial":
            self._emit(model.TransferEnded, target=name, result="handed over")
            self._leave(transfer.to)
            return {"status": "transferred"}
        result = await self._to_phone(name, transfer, summary)
        self._emit(model.TransferEnded, target=name, result=result)
        if result == ANSWERED:
            return {"status": "transferred"}
        return {"error": f"not transferred: {result}. Tell the caller, and offer something else."}

    async def _to_phone(self, name: str, transfer: Transfer, summary: str) -> str:
        target = target_of(transfer.to, self._house.settings)
        number = self._e164(target)
        guard, now = self._house.guard, time.monotonic
        if refusal := guard.refusal(number, self._caller, now()):
            log.warning("dial_refused", why=refusal, target=name)
            return f"refused by the dial policy: {refusal}"
        if await self._is_full(target):
            return "all lines are busy"
        if transfer.how == "refer" and await self._refer(target):
            self._leave(model.CallOutcome(model.Reason.COMPLETED, f"transferred to {name} by REFER"))
            return ANSWERED
        self._legs += 1
        leg_id = f"{self._call_id}-leg{self._legs}"
        guard.started(leg_id, self._caller, now())
        async with AsyncExitStack() as undo:
            undo.callback(lambda: guard.ended(leg_id, now()))
            leg = await undo.enter_async_context(second_leg(self._house.ari, leg_id))
            result = await self._ring(leg, target, transfer, summary)
            if result == ANSWERED:
                self._leave(Joined(name, leg, undo.pop_all()))
            return result

    async def _ring(self, leg: Leg, target: ToDial, transfer: Transfer, summary: str) -> str:
        settings, conversation = self._house.settings, self._conversation
        if conversation is None:
            return "the conversation is over"
        warm = transfer.how == "warm"
        conversation.talk.hold()
        self._room.loop(looped("hold" if warm else "ringback", self._room.law))
        result = ANSWERED
        try:
            result = await leg.ring(
                dial_string(target.number, target.trunk, settings),
                shown=shown_number(target.trunk, settings) or self._caller,
                timeout_s=target.timeout_s,
                for_channel=self._call_id,
            )
            if warm and result == ANSWERED:
                result = await ask(leg, Offer(self._caller, summary, self._agent), self._room.law, self._house)
        finally:
            self._room.stop_loop()
            if result != ANSWERED:
                conversation.talk.resume()
        return result

    async def _refer(self, target: ToDial) -> bool:
        """Ask the caller's side to call there; a refused REFER comes back, and the caller with it."""
        place = away.refer_to(target, self._house.settings)
        return place is not None and await self._step_out(place) == "SUCCESS"

    async def _is_full(self, target: ToDial) -> bool:
        """Whether the trunk has as many calls as it may have; Asterisk counts them, in and out."""
        trunk = self._house.settings.trunks.get(target.trunk)
        if trunk is None:
            return False
        up = await ChannelHandle(self._house.ari, self._call_id).variable(f"GROUP_COUNT({target.trunk}@trunk)")
        return up.isdigit() and int(up) >= trunk.channels

    def _e164(self, target: ToDial) -> str:
        trunk = self._house.settings.trunks.get(target.trunk)
        return str(trunk.e164(target.number)) if trunk else target.number

    def _leave(self, to: object) -> None:
        if self._conversation is not None and not self._conversation.left.done():
            self._conversation.left.set_result(to)

    async def _spoken_out(self) -> None:
        """The agent's sentence is heard to its end before anything else happens."""
        if self._conversation is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SPOKEN_OUT_S):
                    await self._conversation.talk.until_quiet()

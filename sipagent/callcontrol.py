"""What an agent may do with the call itself: hand it over, end it, hold it, press keys, take keys, a message, a date.

The model asks; what happens is what the operator has listed for this agent. Each function is a few lines here and a
schema; what is long has a file of its own (`transfer`, `digits`).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sipagent import model
from sipagent.caller import Caller
from sipagent.config import Agent, Settings
from sipagent.conversation import Builtin
from sipagent.digits import collect
from sipagent.outcome import CallOutcome, Reason
from sipagent.tones import looped
from sipagent.transfer import SUMMARY_CHARS, Parties, Transfers

Handler = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
MAX_HOLD_S = 180
MAX_MESSAGE_CHARS = 4000
MAX_AHEAD = dt.timedelta(days=31)
_KEYS = re.compile(r"[0-9*#A-D]{1,32}")


class CallControl:
    """One conversation's hands: `builtins` to offer, `serve` when there is a conversation, `aclose` at its end."""

    def __init__(self, caller: Caller, secrets: dict[str, str], on_machine: Callable[[], None] | None = None) -> None:
        """`secrets` takes the digits that only tools may see.

        `on_machine`: the agent believes that a machine has answered the call that we made.
        """
        self._caller, self._secrets, self._on_machine = caller, secrets, on_machine
        self._parties: Parties | None = None
        self._transfers: Transfers | None = None
        self._given_to = ""
        """The function that has the caller: they hear its music, or their keys are its."""

    def serve(self, parties: Parties) -> None:
        """The conversation it is for."""
        self._parties, self._transfers = parties, Transfers(parties)

    async def aclose(self) -> None:
        """Whoever was invited leaves; twice is fine."""
        if self._transfers is not None:
            await self._transfers.aclose()
        self._parties = self._transfers = None

    def builtins(self, agent: Agent, settings: Settings) -> dict[str, Builtin]:
        """What this agent may do, by the name of the function."""
        out: dict[str, Builtin] = {}
        if agent.transfers:
            known = "; ".join(f"{name}: {settings.transfers[name].description}" for name in agent.transfers)
            out["transfer_call"] = Builtin(
                f"Hand the caller over. Tell them first. Places: {known}",
                _schema(
                    target=_one_of(agent.transfers),
                    summary=_text("Who calls and what they want, in a sentence."),
                    required=("target",),
                ),
                self._alone("transfer_call", self._transfer_call),
            )
        if agent.may_hang_up:
            out["hang_up"] = Builtin(
                "End the call. Only when the caller wants nothing more and goodbye has been said.",
                _schema(),
                self._hang_up,
            )
        if agent.may_hold:
            out["hold"] = Builtin(
                "Put the caller on hold with music. Tell them first. You are called back when the time is over.",
                _schema(seconds={"type": "integer", "minimum": 1, "maximum": MAX_HOLD_S}, required=("seconds",)),
                self._alone("hold", self._hold),
            )
        if agent.may_send_dtmf:
            out["send_dtmf"] = Builtin(
                "Press keys of the telephone, for a machine on the other side that asks for them.",
                _schema(digits=_text("0 to 9, *, #, as 12#."), required=("digits",)),
                self._send_dtmf,
            )
        if agent.digits:
            known = "; ".join(f"{name}: {settings.digits[name].description}" for name in agent.digits)
            out["collect_digits"] = Builtin(
                "Let the caller key in a number that you must not see; tools know it as {name}. First tell the caller "
                f"what to key in and that # ends it; do not ask them to say it. Numbers: {known}",
                _schema(name=_one_of(agent.digits), required=("name",)),
                self._alone("collect_digits", self._collect_digits),
            )
        if agent.messages:
            out["take_message"] = Builtin(
                "Leave a message of the caller for somebody. Read it back to the caller first.",
                _schema(
                    mailbox=_one_of(agent.messages),
                    text=_text("The message, with the caller's name, in full sentences."),
                    number=_text("Where they want to be called back, if they said so."),
                    required=("mailbox", "text"),
                ),
                self._take_message,
            )
        if agent.may_schedule_callbacks:
            out["schedule_callback"] = Builtin(
                "Promise the caller that we call back. Agree on the time first.",
                _schema(
                    in_minutes={"type": "integer", "minimum": 0, "maximum": int(MAX_AHEAD.total_seconds() // 60)},
                    reason=_text("What it is about: you will be told when you call."),
                    number=_text("In E.164, as +442079460123; left out: the number they call from."),
                    required=("in_minutes", "reason"),
                ),
                self._schedule_callback,
            )
        if self._on_machine is not None:
            out["report_answering_machine"] = Builtin(
                "You have called them, and not a person but a machine or a mailbox answers: a greeting is played, or "
                "you are asked to speak after a tone. Say nothing then; call this.",
                _schema(),
                self._report_machine,
            )
        return out

    @property
    def _now(self) -> Parties:
        if self._parties is None:
            raise RuntimeError("the conversation is over")
        return self._parties

    def _alone(self, name: str, does: Handler) -> Handler:
        """A caller is given to one thing at a time, also where the model asks for two in one response.

        Each puts back what it found, so the second would find the first's, and leave the caller with it.
        """

        async def handler(arguments: Mapping[str, Any]) -> dict[str, Any]:
            if self._given_to:
                return {"error": f"not while {self._given_to} is under way: wait for its result, then call this again"}
            self._given_to = name
            try:
                return await does(arguments)
            finally:
                self._given_to = ""

        return handler

    async def _transfer_call(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if self._transfers is None:
            return {"error": "the conversation is over"}
        return await self._transfers.to(str(arguments["target"]), str(arguments.get("summary", ""))[:SUMMARY_CHARS])

    async def _hang_up(self, _arguments: Mapping[str, Any]) -> dict[str, Any]:
        await self._now.spoken_out()
        self._now.leave(CallOutcome(Reason.COMPLETED, "the agent hung up"))
        return {"status": "hanging up"}

    async def _hold(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        parties = self._now
        await parties.spoken_out()
        parties.emit(model.CallHeld, by="agent")
        parties.conversation.talk.hold()
        try:
            with parties.room.looping(looped("hold", parties.room.law)):
                await asyncio.sleep(min(float(arguments["seconds"]), MAX_HOLD_S))
        finally:
            parties.conversation.talk.resume()
            parties.emit(model.CallRetrieved, by="agent")
        return {"status": "the caller hears you again"}

    async def _send_dtmf(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        keys = str(arguments["digits"]).replace(" ", "")
        if not _KEYS.fullmatch(keys):
            return {"error": "1 to 32 of 0 to 9, *, #, A to D"}
        await self._caller.channel.send_dtmf(keys)
        return {"status": "pressed"}

    async def _collect_digits(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        parties, name = self._now, str(arguments["name"])
        wanted = parties.house.settings.digits[name]
        digits, result = await collect(wanted, self._caller, parties)
        parties.emit(model.DigitsCollected, purpose=name, digits=len(digits), result=result or "ok")
        if result:
            return {"error": result}
        self._secrets[name] = digits
        return {"status": f"the caller has keyed in {len(digits)} digits; tools know them as {name}"}

    async def _take_message(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        parties = self._now
        text, number = str(arguments["text"]).strip()[:MAX_MESSAGE_CHARS], str(arguments.get("number", ""))[:40]
        if not text:
            return {"error": "the message is empty"}
        parties.emit(model.MessageTaken, mailbox=str(arguments["mailbox"]), text=text, number=number or parties.caller)
        return {"status": "the message is left"}

    async def _schedule_callback(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        parties, settings = self._now, self._now.house.settings
        number = re.sub(r"[^\d+]", "", str(arguments.get("number") or parties.caller))
        if not number or not settings.outbound.trunks:
            return {"error": "calling back is not possible" if number else "the caller's number is hidden: ask for one"}
        trunk = settings.outbound.trunks[0]
        plan = settings.trunks.get(trunk)
        number = str(plan.e164(number)) if plan else number
        if refusal := parties.house.guard.forbidden(number):
            parties.emit(model.DialRefused, to=number, why=refusal, asked_by="agent")
            return {"error": "that number may not be called; offer something else"}
        not_before = time.time() + 60 * float(arguments["in_minutes"])
        parties.emit(
            model.CallbackRequested,
            callback_id=uuid.uuid4().hex,
            number=number,
            agent=parties.agent_name,
            trunk=trunk,
            not_before=not_before,
            not_after=not_before + settings.outbound.expire_after_s,
            attempts=settings.outbound.attempts,
            reason=str(arguments["reason"])[:SUMMARY_CHARS],
        )
        return {"status": "the call-back is arranged"}

    async def _report_machine(self, _arguments: Mapping[str, Any]) -> dict[str, Any]:
        if self._on_machine is not None:
            self._on_machine()
        return {"status": "understood; say nothing"}


def _schema(*, required: tuple[str, ...] = (), **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _one_of(names: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "string", "enum": list(names)}

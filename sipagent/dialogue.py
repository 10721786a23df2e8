"""A conversation as a caller has it: lines to say, agents to hear out or to interrupt, figures at the end.

The demo call and `sipagent call` are this. Everything is measured at the caller's phone, with the
caller's clock; nothing is taken from the product's own word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

from sipagent.errors import ToolError
from sipagent.phone.phone import CallSummary, Phone

GREETING_QUIET_MS = 600.0
"""Longer than the pauses between flite's sentences, so that the greeting is heard to its end."""
INTERRUPT_AFTER_S = 2.0
"""How long the agent may talk before a barge-in line cuts in."""
NO_ANSWER_S = 12.0

Speak = Callable[[str], Awaitable[tuple[bytes, int]]]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing the caller says; `interrupt` says it while the agent still talks."""

    text: str
    interrupt: bool = False


DEMO = (
    Line("What are your opening hours?"),
    Line("Tell me about your services."),
    Line("What is your address?", interrupt=True),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a call was like at the caller's ear; milliseconds, None where nothing was measured."""

    setup_ms: float | None
    first_agent_ms: float | None
    turns: int
    ear_to_ear_p50_ms: float | None
    ear_to_ear_max_ms: float | None
    barge_in_stop_ms: float | None
    packets_lost: int
    packets_received: int
    longest_gap_ms: float
    outcome: str

    @classmethod
    def of(cls, summary: CallSummary) -> Figures:
        """From the phone's own summary."""
        answers = [turn.response_ms for turn in summary.turns if turn.response_ms is not None]
        stops = [turn.barge_in_ms for turn in summary.turns if turn.barge_in_ms is not None]
        return cls(
            setup_ms=summary.setup_ms,
            first_agent_ms=summary.first_agent_ms,
            turns=len(answers),
            ear_to_ear_p50_ms=median(answers) if answers else None,
            ear_to_ear_max_ms=max(answers, default=None),
            barge_in_stop_ms=max(stops, default=None),
            packets_lost=summary.packets_lost,
            packets_received=summary.packets_received,
            longest_gap_ms=summary.longest_gap_ms,
            outcome=summary.outcome if summary.status in {0, 200} else f"{summary.outcome} ({summary.status})",
        )


async def converse(phone: Phone, number: str, lines: tuple[Line, ...], speak: Speak) -> CallSummary:
    """Dial, hear the greeting, say each line and hear its answer, hang up.

    `speak(text)` gives PCM and its rate in Hz. Returns the phone's summary, also of a call that was refused.
    Raises ToolError when the agent stays silent.
    """
    speech = [await speak(line.text) for line in lines]
    await phone.dial(number)
    if not await phone.wait_answered():
        return phone.summary()
    await phone.hear_agent_start()
    following = [*(line.interrupt for line in lines[1:]), False]
    await phone.wait_quiet(GREETING_QUIET_MS)
    for (pcm, rate_hz), interrupted_next in zip(speech, following, strict=True):
        await phone.say_pcm(pcm, rate_hz)
        await phone.hear_agent_start(NO_ANSWER_S)
        if interrupted_next:
            await asyncio.sleep(INTERRUPT_AFTER_S)
            await phone.hear_voice()  # not into a pause between words: there is nothing to stop in it
        else:
            await phone.wait_quiet(GREETING_QUIET_MS)
        if phone.ended:
            raise ToolError("the call ended in the middle of the conversation")
    await phone.hang_up()
    return phone.summary()

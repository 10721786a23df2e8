"""Keys that nobody sees but the tools: a card number, a PIN.

Telephone events never come to us as sound (RFC 4733; Asterisk takes them out), and while they are awaited the model
hears nothing, the recording is paused, and neither log nor event holds more than how many there were.
"""

from __future__ import annotations

import asyncio

from sipagent.caller import Caller
from sipagent.config.outward import Digits
from sipagent.recording import COLLECTING
from sipagent.transfer import Parties

END, CLEAR = "#", "*"


async def collect(wanted: Digits, caller: Caller, parties: Parties) -> tuple[str, str]:
    """The digits, and what was wrong with them (empty: nothing), in words for the model."""
    keys: asyncio.Queue[str] = asyncio.Queue()
    # From now on: who knows what comes presses while the agent still asks for it.
    before, caller.on_key = caller.on_key, keys.put_nowait
    talk = parties.conversation.talk
    talk.hold()
    try:
        with parties.room.recording.paused(COLLECTING):
            await parties.spoken_out()
            return await _keyed(wanted, keys)
    finally:
        caller.on_key = before
        talk.resume()


async def _keyed(wanted: Digits, keys: asyncio.Queue[str]) -> tuple[str, str]:
    digits, wait_s = "", wanted.first_s
    while len(digits) < wanted.max_digits:
        try:
            async with asyncio.timeout(wait_s):
                key = await keys.get()
        except TimeoutError:
            break
        if key == END:
            break
        digits = "" if key == CLEAR else digits + key
        wait_s = wanted.between_s
    return digits, wrong_with(digits, wanted)


def wrong_with(digits: str, wanted: Digits) -> str:
    """Why these are not what was asked for; empty: they are."""
    if not digits:
        return "the caller has pressed nothing"
    if len(digits) < wanted.min_digits:
        return f"the caller has keyed in {len(digits)} digits, and {wanted.min_digits} are needed"
    if wanted.luhn and not luhn(digits):
        return "the number has a wrong digit: ask the caller to try again"
    return ""


def luhn(digits: str) -> bool:
    """Does the check digit fit (ISO/IEC 7812-1, annex B)?"""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return digits.isdigit() and (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0

"""What a caller's ear got while something was wrong: how long it heard nothing that it should have heard (core).

The agent's own voice is the stand-in's `pattern`, all of whose code words are loud; a prompt, music or a tone has quiet
ones in every frame. So each frame says whether it is conversation or filler, bit for bit, since G.711 passes untouched.
Times are monotonic seconds; no socket and no clock is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sipagent.audio import Law
from sipagent.phone.analysis import Heard, Said
from sipagent.standin.pattern import pattern

USUAL_S = 0.8
"""A healthy answer after the caller's last sound: the stand-in's pause of 500 ms and its thinking time of 300."""
WITHIN_S = 2.5
"""A silence that begins later after a fault is none of its."""
FELT_S = 0.3
"""Shorter is what a pause between two words takes: such a caller has noticed nothing."""
_LOUD = bytes(set(pattern(Law.ULAW, 1, 0, 1 << 16)))


def is_talk(frame: bytes) -> bool:
    """The agent's own voice, and no filler."""
    return len(frame) > 1 and not frame.translate(None, _LOUD)


@dataclass(frozen=True, slots=True)
class Silence:
    """The longest of one caller after a fault, in seconds; None: it had not ended when we looked last."""

    voice_s: float | None
    """Until anything was heard: a filler, music, the agent."""
    talk_s: float | None
    """Until the agent itself was heard."""

    @property
    def felt(self) -> bool:
        """The caller noticed."""
        return self.talk_s is None or self.talk_s > FELT_S


def listen(heard: Sequence[Heard], said: Said | None, since: float, until: float) -> Silence:
    """What somebody heard from the fault at `since` on; `said`: what they said around it, if they did."""
    talk = [one.at for one in heard if one.voiced and is_talk(one.packet.payload)]
    return Silence(
        _longest([one.at for one in heard if one.voiced], said, since, until), _longest(talk, said, since, until)
    )


def _longest(times: Sequence[float], said: Said | None, since: float, until: float) -> float | None:
    """Of the silences that began with the fault; the caller's own words and a usual wait after them are none."""
    before = max((at for at in times if at <= since), default=since)
    longest = 0.0
    for last, following in pairwise([before, *(at for at in times if since < at < until), until]):
        if last > since + WITHIN_S:
            break
        began = max(last, since)
        if said is not None and said.last > last:
            began = max(began, said.last + USUAL_S)
        if following == until and until - began > FELT_S:
            return None
        longest = max(longest, following - began)
    return longest

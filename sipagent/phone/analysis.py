"""What the caller heard, as figures: frames with their times in, turns and latencies out (core).

Reads no clock and no socket. Times are monotonic seconds. A frame is voiced when its level is above
VOICED_DBOV; speech has pauses between words, so talk spurts with less than PAUSE_S between them are one.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from sipagent.audio import PTIME_MS, SAMPLE_RATE_HZ
from sipagent.rtp.packet import RtpPacket, seq_delta, ts_delta

VOICED_DBOV = -45.0
"""Speech lies at -30 to -15 dBov; line noise and comfort noise below -50."""

PAUSE_S = 0.4
"""Agents pause 100 to 300 ms between words; a turn-taking server needs at least as much to end a turn."""

FRAME_S = PTIME_MS / 1000


@dataclass(frozen=True, slots=True)
class Heard:
    """One RTP packet that came in."""

    at: float
    packet: RtpPacket
    voiced: bool


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance of the caller: when its first and its last voiced frame left."""

    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one utterance; None where there is nothing to measure."""

    response_ms: float | None
    """Last voiced caller frame out to first voiced agent frame in."""
    barge_in_ms: float | None
    """Where the agent was talking: onset of the caller's speech to the end of the agent's."""
    was_barge_in: bool


@dataclass(frozen=True, slots=True)
class Reception:
    """How the packets came (RFC 3550), all sources together."""

    packets: int
    lost: int
    reordered: int
    duplicates: int
    sources: int
    longest_gap_ms: float
    jitter_ms: float

    @property
    def lost_percent(self) -> float:
        """Share of what was sent to us and did not come."""
        return 100 * self.lost / (self.packets + self.lost) if self.lost else 0.0


def spurts(voiced: Sequence[float], pause_s: float = PAUSE_S) -> list[tuple[float, float]]:
    """Talk spurts as (arrival of the first, arrival of the last voiced frame)."""
    found: list[tuple[float, float]] = []
    for at in voiced:
        if found and at - found[-1][1] < pause_s:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found


def onset_after(voiced: Sequence[float], mark: float, pause_s: float = PAUSE_S) -> float | None:
    """The first voiced frame after `mark` that opens a spurt: the tail of an earlier one does not count."""
    for first, _ in spurts(voiced[max(0, bisect.bisect_left(voiced, mark - pause_s)):], pause_s):  # fmt: skip
        if first > mark:
            return first
    return None


def turns(said: Sequence[Said], voiced: Sequence[float]) -> list[Turn]:
    """One turn for each utterance: the answer's latency, and how fast a barge-in silenced the agent.

    `voiced` are the arrivals of the agent's voiced frames in order.
    """
    found: list[Turn] = []
    agent = spurts(voiced)
    for index, utterance in enumerate(said):
        until = said[index + 1].first if index + 1 < len(said) else float("inf")
        talking = next((s for s in agent if s[0] <= utterance.first <= s[1] + FRAME_S), None)
        stopped = None
        if talking and talking[1] < until:
            stopped = max(0.0, (talking[1] - utterance.first) * 1000)
        answer = next((first for first, _ in agent if utterance.last < first < until), None)
        response = None if answer is None else (answer - utterance.last) * 1000
        found.append(Turn(response, stopped, talking is not None))
    return found


def reception(heard: Sequence[Heard]) -> Reception:
    """Loss, order, jitter and the longest gap; each source is counted on its own, as the SSRC may change."""
    sources: dict[int, list[Heard]] = {}
    for one in heard:
        sources.setdefault(one.packet.ssrc, []).append(one)
    counts = [_count(source) for source in sources.values()]
    lost, reordered, duplicates = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    gaps = (after.at - before.at for before, after in itertools.pairwise(heard))
    return Reception(
        packets=len(heard) - duplicates,
        lost=lost,
        reordered=reordered,
        duplicates=duplicates,
        sources=len(sources),
        longest_gap_ms=1000 * max(gaps, default=0.0),
        jitter_ms=1000 * max((_jitter(source) for source in sources.values()), default=0.0),
    )


def _count(source: Sequence[Heard]) -> tuple[int, int, int]:
    """Packets lost, out of order and double within one source."""
    first = source[0].packet.sequence_number
    highest = lowest = reordered = duplicates = 0
    seen: set[int] = set()
    for one in source:
        place = highest + seq_delta(one.packet.sequence_number, (first + highest) & 0xFFFF)
        if place in seen:
            duplicates += 1
            continue
        seen.add(place)
        reordered += place < highest
        highest, lowest = max(highest, place), min(lowest, place)
    return highest - lowest + 1 - len(seen), reordered, duplicates


def _jitter(source: Sequence[Heard]) -> float:
    """Interarrival jitter in seconds (RFC 3550, 6.4.1)."""
    jitter = 0.0
    for before, after in itertools.pairwise(source):
        sent_apart_s = ts_delta(after.packet.timestamp, before.packet.timestamp) / SAMPLE_RATE_HZ
        jitter += (abs(after.at - before.at - sent_apart_s) - jitter) / 16
    return jitter


def timeline(heard: Sequence[Heard], start: float, silence: int) -> bytes:
    """What came in as one stretch of G.711 from `start`: placed by RTP time, holes filled with silence.

    Each source is anchored where its first packet arrived, so jitter leaves no holes.
    """
    out = bytearray()
    anchors: dict[int, tuple[int, int]] = {}
    for one in heard:
        packet = one.packet
        if packet.ssrc not in anchors:
            anchors[packet.ssrc] = (round((one.at - start) * SAMPLE_RATE_HZ), packet.timestamp)
        place, timestamp = anchors[packet.ssrc]
        place += ts_delta(packet.timestamp, timestamp)
        if place < 0:
            continue
        end = place + len(packet.payload)
        if end > len(out):
            out += bytes([silence]) * (end - len(out))
        out[place:end] = packet.payload
    return bytes(out)

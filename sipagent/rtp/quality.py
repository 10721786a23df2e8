"""How a leg sounded: loss, jitter and delay to R factor and MOS by the E-model (core).

ITU-T G.107 with its default parameters (clause 7.7), of which a digital leg of G.711 changes three: loss,
its burstiness, and delay. There is no talker or listener echo (Idte, Idle): nobody's microphone hears
the model's loudspeaker. What is not known is None, and a leg without packets has no MOS rather than a
good one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sipagent.audio import PTIME_MS
from sipagent.model import LegQuality
from sipagent.rtp.jitter import Counters

DEFAULT_R = 93.2
"""Ro - Is with all defaults (G.107, 7.7): MOS 4.41."""
G711_IE = 0.0
"""Equipment impairment of G.711 (G.113, Appendix I)."""
G711_BPL_PLC = 25.1
"""Robustness to loss with concealment after G.711 Appendix I (G.113, Appendix I)."""
G711_BPL_SILENCE = 4.3
"""The same where silence stands for what was lost."""
PLAYOUT_MS = 40.0
"""Assumed for the caller's telephone: two packets in its jitter buffer."""

_IE_SCALE = 95.0
_NO_DELAY_MS, _DELAY_SENSITIVITY = 100.0, 1.0  # mT and sT: the defaults, which are for telephony
_NO_FIGURE = 1e12
"""Of packets or of seconds: what is as large has not been counted."""
_LOST_IS_NEGATIVE = 1 << 23  # RTCP's cumulative loss is a signed number of 24 bits (RFC 3550, 6.4.1)


def delay_impairment(delay_ms: float) -> float:
    """Idd (G.107, 7.4): what a one-way delay from mouth to ear takes from R; nothing up to 100 ms."""
    if delay_ms <= _NO_DELAY_MS:
        return 0.0
    x = math.log2(delay_ms / _NO_DELAY_MS)
    power = 6 * _DELAY_SENSITIVITY
    return 25 * (math.pow(1 + x**power, 1 / power) - 3 * math.pow(1 + (x / 3) ** power, 1 / power) + 2)


def loss_impairment(loss_fraction: float, burst_ratio: float = 1.0, bpl: float = G711_BPL_PLC) -> float:
    """Ie,eff (G.107, 7.5): what loss takes from R. `burst_ratio` is 1 for random loss, more for bursts.

    The formula holds for a ratio up to 8, and up to 2 where 2 % or more are lost (7.7): beyond it the bound counts.
    """
    ppl = 100 * loss_fraction
    if ppl <= 0:
        return G711_IE
    burst_ratio = min(burst_ratio, 8.0 if ppl < 2 else 2.0)
    return min(G711_IE + (_IE_SCALE - G711_IE) * ppl / (ppl / burst_ratio + bpl), _IE_SCALE)


def r_factor(
    loss_fraction: float, burst_ratio: float = 1.0, delay_ms: float = 0.0, *, bpl: float = G711_BPL_PLC
) -> float:
    """R (G.107, 7.1), 0 to 93.2. `loss_fraction` is 0 to 1, `delay_ms` one way from mouth to ear."""
    return max(DEFAULT_R - delay_impairment(delay_ms) - loss_impairment(loss_fraction, burst_ratio, bpl), 0.0)


def mos(r: float) -> float:
    """Mean opinion score, 1 to 4.5, of an R factor (G.107, Annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6, 1.0)


def burst_ratio(lost: int, runs: int, loss_fraction: float) -> float:
    """BurstR (G.107, clause 3): mean length of the bursts over what random loss of this rate would make it."""
    return max(lost / runs * (1 - loss_fraction), 1.0) if runs else 1.0


def from_counters(counters: Counters, jitter_ms: float, *, rtt_ms: float | None = None) -> LegQuality:
    """What the model heard of the caller, over the whole way: Asterisk hands the caller's packets on as they come.

    A late packet was lost to the listener. Our concealment counts as Appendix I, which repeats with more art but
    fades as soon; a model's ear has no table of its own.
    """
    gone = counters.lost + counters.late
    return _leg(
        counters.received,
        counters.lost,
        late=counters.late,
        reordered=counters.reordered,
        duplicate=counters.duplicate,
        jitter_ms=jitter_ms,
        rtt_ms=rtt_ms,
        bursts=burst_ratio(gone, counters.loss_runs, gone / counters.expected) if gone else 1.0,
        delay_ms=PTIME_MS + (rtt_ms or 0.0) / 2,  # the packet's own length; we add nothing
    )


def from_asterisk(statistics: Mapping[str, float]) -> tuple[LegQuality, LegQuality | None]:
    """The caller's leg from `GET /channels/{id}/rtp_statistics`: what Asterisk heard, what the caller heard.

    Asterisk 22 names both from the far end: `rxploss` is what it missed itself but `txjitter` (seconds) the
    jitter it measured itself, `txploss` and `rxjitter` what the caller's RTCP told. Losses are as of the last
    report, every 5 s, and counts as of now. None for the second where no RTCP came: all its fields are zero
    then, and so they are on a perfect line but for `rxmes`.
    """

    def value(name: str) -> float:
        number = statistics.get(name, 0.0)
        return number if isinstance(number, int | float) and 0 < number < _NO_FIGURE else 0.0  # and no NaN

    rtt_ms = 1000 * value("rtt") or None
    heard = _leg(
        int(value("rxcount")),
        int(value("rxploss")),
        jitter_ms=1000 * value("txjitter"),
        rtt_ms=rtt_ms,
        delay_ms=PTIME_MS + (rtt_ms or 0.0) / 2,
    )
    if not any(map(value, ("rtt", "rxmes", "txploss", "rxjitter", "remote_maxjitter"))):
        return heard, None
    lost = int(value("txploss"))
    if lost >= _LOST_IS_NEGATIVE:
        lost = 0  # more came than was sent: duplicates
    told = _leg(
        max(int(value("txcount")) - lost, 0),
        lost,
        jitter_ms=1000 * value("rxjitter"),
        rtt_ms=rtt_ms,
        delay_ms=PTIME_MS + PLAYOUT_MS + (rtt_ms or 0.0) / 2,
    )
    return heard, told


def _leg(
    received: int,
    lost: int,
    *,
    jitter_ms: float,
    rtt_ms: float | None,
    delay_ms: float,
    late: int = 0,
    reordered: int = 0,
    duplicate: int = 0,
    bursts: float = 1.0,
) -> LegQuality:
    expected = received + lost + late
    loss = (lost + late) / expected if expected else 0.0
    r = r_factor(loss, bursts, delay_ms) if received else None
    return LegQuality(
        received=received,
        expected=expected,
        lost=lost,
        loss_percent=round(100 * loss, 2),
        late=late,
        reordered=reordered,
        duplicate=duplicate,
        jitter_ms=round(jitter_ms, 2),
        rtt_ms=None if rtt_ms is None else round(rtt_ms, 1),
        r_factor=None if r is None else round(r, 1),
        mos=None if r is None else round(mos(r), 2),
    )

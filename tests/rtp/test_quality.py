"""ITU-T G.107 against its own figures, and what is made of Asterisk's."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sipagent.rtp.jitter import Counters
from sipagent.rtp.quality import (
    DEFAULT_R,
    G711_BPL_SILENCE,
    burst_ratio,
    delay_impairment,
    from_asterisk,
    from_counters,
    loss_impairment,
    mos,
    r_factor,
)

# `GET /channels/{id}/rtp_statistics` of Asterisk 22.10: 10 % lost from the caller, whose RTCP told of 33 lost,
# 10 ms of jitter and answered 50 ms late (other fields left out).
ASTERISK = {
    "txcount": 553, "rxcount": 496, "txploss": 33, "rxploss": 49, "local_ssrc": 388591958, "remote_ssrc": 4369,
    "txjitter": 0.000875, "rxjitter": 0.01, "remote_maxjitter": 0.01, "local_maxjitter": 0.001,
    "rtt": 0.050231, "maxrtt": 0.051849, "rxmes": 28, "txmes": 43,
}  # fmt: skip
NO_RTCP = {**dict.fromkeys(ASTERISK, 0), "rxcount": 20, "txcount": 30, "txjitter": 0.000125}


def test_the_default_connection_is_mos_4_41() -> None:
    assert r_factor(0) == DEFAULT_R
    assert mos(DEFAULT_R) == pytest.approx(4.41, abs=0.005)


@pytest.mark.parametrize(
    ("r", "score"), [(-5, 1.0), (0, 1.0), (50, 2.58), (60, 3.10), (70, 3.60), (80, 4.03), (90, 4.34), (100, 4.5)]
)
def test_mos_of_r_as_annex_b_tabulates_it(r: float, score: float) -> None:
    assert mos(r) == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize(("delay_ms", "taken"), [(0, 0), (100, 0), (150, 0.2), (200, 3.0), (300, 14.8), (400, 24.1)])
def test_delay_up_to_100_ms_is_free(delay_ms: float, taken: float) -> None:
    assert delay_impairment(delay_ms) == pytest.approx(taken, abs=0.1)


def test_loss_with_and_without_concealment() -> None:
    assert loss_impairment(0) == 0
    assert loss_impairment(0.01) == pytest.approx(95 / 26.1)
    assert loss_impairment(0.01, bpl=G711_BPL_SILENCE) == pytest.approx(95 / 5.3)
    assert loss_impairment(0.02, 2.0) > loss_impairment(0.02, 1.0)  # the same loss in bursts is worse
    assert r_factor(1.0, bpl=G711_BPL_SILENCE) < 5
    assert loss_impairment(0.1, 7.0) == loss_impairment(0.1, 2.0)  # out of the formula's range


def test_burst_ratio_is_one_for_random_loss() -> None:
    assert burst_ratio(0, 0, 0) == 1
    assert burst_ratio(100, 95, 0.05) == pytest.approx(1)
    assert burst_ratio(100, 20, 0.05) == pytest.approx(4.75)


@given(st.floats(0, 1), st.floats(1, 50), st.floats(0, 5000))
def test_r_and_mos_stay_in_their_bounds(loss: float, burst: float, delay_ms: float) -> None:
    r = r_factor(loss, burst, delay_ms)
    assert 0 <= r <= DEFAULT_R
    assert 1 <= mos(r) <= 4.5


def test_a_leg_without_packets_has_no_mos() -> None:
    leg = from_counters(Counters(), 0.0)
    assert (leg.received, leg.r_factor, leg.mos) == (0, None, None)
    assert from_counters(Counters(lost=5), 0.0).mos is None
    heard, told = from_asterisk({})
    assert (heard.mos, told) == (None, None)


def test_our_own_counters() -> None:
    counters = Counters(
        received=960, lost=30, late=10, loss_runs=40, reordered=7, duplicate=3, concealed_ticks=6400, muted_ticks=0
    )
    leg = from_counters(counters, 3.14159, rtt_ms=60.0)
    assert (leg.received, leg.expected, leg.lost, leg.late, leg.reordered, leg.duplicate) == (960, 1000, 30, 10, 7, 3)
    assert (leg.loss_percent, leg.jitter_ms, leg.rtt_ms) == (4.0, 3.14, 60.0)
    assert leg.r_factor == pytest.approx(DEFAULT_R - 95 * 4 / 29.1, abs=0.1)
    in_bursts = from_counters(Counters(received=960, lost=40, loss_runs=2), 0.0)
    assert in_bursts.loss_percent == leg.loss_percent
    assert in_bursts.mos < leg.mos  # type: ignore[operator]


def test_asterisks_figures_both_ways() -> None:
    heard, told = from_asterisk(ASTERISK)
    assert (heard.received, heard.lost, heard.loss_percent) == (496, 49, 8.99)
    assert (heard.jitter_ms, heard.rtt_ms) == (0.88, 50.2)
    assert told is not None
    assert (told.received, told.lost, told.jitter_ms, told.rtt_ms) == (520, 33, 10.0, 50.2)
    assert heard.mos
    assert told.mos
    assert heard.mos < told.mos < 4.41


def test_no_rtcp_is_not_a_perfect_line() -> None:
    heard, told = from_asterisk(NO_RTCP)
    assert told is None
    assert heard.received == 20
    assert heard.rtt_ms is None
    perfect = from_asterisk({**NO_RTCP, "rxmes": 88})[1]
    assert perfect is not None
    assert perfect.mos == 4.41


def test_a_negative_loss_of_rtcp_is_none() -> None:
    """More received than sent, by duplicates (RFC 3550, 6.4.1): Asterisk gives the 24 bits as they came."""
    told = from_asterisk({**ASTERISK, "txploss": 0xFFFFFE})[1]
    assert told is not None
    assert (told.lost, told.received) == (0, 553)


@given(
    st.dictionaries(
        st.sampled_from([*ASTERISK, "else"]),
        st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**70), 2**70),
    )
)
@example({"rtt": 1e308})
def test_garbage_survives(fields: dict[str, float]) -> None:
    for leg in from_asterisk({**ASTERISK, **fields}):
        if leg and leg.mos is not None:
            assert 1 <= leg.mos <= 4.5
            assert math.isfinite(leg.loss_percent)

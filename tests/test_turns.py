"""The shares of a turn's time: always the sum of what the caller waited."""

from hypothesis import given
from hypothesis import strategies as st

from sipagent.turns import TurnClock

times = st.floats(0, 5, allow_nan=False)


def test_a_turn_in_its_four_shares() -> None:
    clock = TurnClock()
    clock.speech_stopped(10.540)
    clock.audio(11.240)
    clock.audio(11.300)  # only the first counts
    assert clock.answered("a", 10.0, 11.242, 11.282, 40.0) == {
        "latency_ms": 1282.0,
        "detection_ms": 500.0,
        "network_ms": 40.0,
        "own_ms": 2.0,
        "model_ms": 740.0,  # 700 until the audio, 40 of silence at its head
    }


def test_an_opening_has_no_latency_and_is_told_once() -> None:
    clock = TurnClock()
    assert clock.answered("hello", None, 1.0, 1.0, None) == {"latency_ms": None}
    assert clock.answered("hello", None, 2.0, 2.0, None) is None
    assert clock.answered("again", None, 3.0, 3.0, None) == {"latency_ms": None}


def test_what_is_not_known_lies_within_the_models_share() -> None:
    shares = TurnClock().answered("a", 1.0, 2.0, 2.0, None)
    assert shares == {
        "latency_ms": 1000.0,
        "detection_ms": None,
        "model_ms": 1000.0,
        "network_ms": None,
        "own_ms": None,
    }


def test_the_times_of_one_turn_do_not_leak_into_the_next() -> None:
    clock = TurnClock()
    clock.speech_stopped(1.0)
    clock.audio(1.5)
    clock.answered("a", 0.5, 1.5, 1.5, 10.0)
    second = clock.answered("b", 3.0, 4.0, 4.0, 10.0)
    assert second is not None
    assert (second["detection_ms"], second["own_ms"]) == (None, None)


@given(times, times, times, times, st.none() | st.floats(0, 300))
def test_the_shares_are_the_whole(stopped: float, thought: float, paced: float, head: float, rtt: float | None) -> None:
    clock = TurnClock()
    clock.speech_stopped(stopped)
    clock.audio(stopped + thought)
    out = stopped + thought + paced
    shares = clock.answered("a", 0.0, out, out + head, rtt)
    assert shares is not None
    whole = shares.pop("latency_ms")
    assert whole is not None
    assert abs(sum(share or 0 for share in shares.values()) - whole) < 0.3  # four times rounded

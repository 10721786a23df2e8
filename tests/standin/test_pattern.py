"""pattern: predictable bytes that sound like speech to a gate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent import audio
from sipagent.standin.pattern import pattern


@given(
    st.sampled_from(list(audio.Law)),
    st.integers(-5, 2**70),
    st.integers(0, 10**6),
    st.integers(0, 500),
    st.integers(0, 500),
)
def test_any_part_is_a_part_of_the_whole(law: audio.Law, seed: int, start: int, first: int, second: int) -> None:
    whole = pattern(law, seed, start, first + second)
    assert len(whole) == first + second
    assert whole == pattern(law, seed, start, first) + pattern(law, seed, start + first, second)


@pytest.mark.parametrize("law", list(audio.Law))
def test_every_frame_is_loud_and_never_silence(law: audio.Law) -> None:
    sound = pattern(law, 3, 0, 80_000)
    frames = [sound[i : i + 160] for i in range(0, len(sound), 160)]
    assert all(-25 < audio.level_dbov(audio.decode(frame, law)) < -12 for frame in frames)
    assert bytes([law.silence]) * 2 not in sound
    assert len(set(sound)) > 40


def test_seeds_differ() -> None:
    assert pattern(audio.Law.ULAW, 1, 0, 64) != pattern(audio.Law.ULAW, 2, 0, 64)


def test_negative_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        pattern(audio.Law.ULAW, 1, -1, 5)

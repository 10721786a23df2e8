"""What stands in for audio that did not come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent import audio
from sipagent.audio import SILENCE_FRAME, Law
from sipagent.rtp.concealment import FADE, repeat, silence

TONE = b"\x00\x10\x00\x20\x00\x10\x00\x00\x00\xf0\x00\xe0\x00\xf0\x00\x00" * 20


@pytest.mark.parametrize("law", list(Law))
def test_the_last_frame_is_repeated_six_decibels_softer_each_time(law: Law) -> None:
    last = audio.encode(TONE, law)
    levels = [audio.level_dbov(audio.decode(frame, law)) for frame in (last, *repeat(last, law, 8000))]
    assert len(levels) == 1 + len(FADE)
    assert levels[0] - levels[1] == pytest.approx(6, abs=0.3)
    assert levels[1] - levels[2] == pytest.approx(6, abs=0.3)


@pytest.mark.parametrize("law", list(Law))
def test_silence_repeated_is_silence(law: Law) -> None:
    for frame in repeat(SILENCE_FRAME[law], law, 320):
        assert audio.rms(frame, law) <= 8


@given(st.binary(max_size=1000), st.sampled_from(list(Law)), st.integers(0, 2000))
def test_never_longer_than_asked(last: bytes, law: Law, ticks: int) -> None:
    frames = repeat(last, law, ticks)
    assert sum(map(len, frames)) <= ticks
    assert all(0 < len(frame) <= 160 for frame in frames)


@given(st.sampled_from(list(Law)), st.integers(0, 2000))
def test_silence_is_exact(law: Law, ticks: int) -> None:
    frames = silence(law, ticks)
    assert b"".join(frames) == bytes([law.silence]) * ticks
    assert all(0 < len(frame) <= 160 for frame in frames)

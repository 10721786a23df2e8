"""Sound as pure functions."""

import audioop
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent import audio
from sipagent.audio import Law


def tone(ms: int, amplitude: int = 8000, rate_hz: int = 8000) -> bytes:
    samples = (round(amplitude * math.sin(2 * math.pi * 440 * n / rate_hz)) for n in range(rate_hz * ms // 1000))
    return b"".join(struct.pack("<h", s) for s in samples)


@given(st.binary(max_size=400))
def test_changing_the_law_is_what_two_codecs_do(payload: bytes) -> None:
    assert audio.change_law(payload, Law.ULAW, Law.ALAW) == audioop.lin2alaw(audioop.ulaw2lin(payload, 2), 2)
    assert audio.change_law(payload, Law.ALAW, Law.ALAW) is payload


@pytest.mark.parametrize("law", list(Law))
def test_silence_is_silent_and_g711_survives_a_round_trip(law: Law) -> None:
    assert audio.rms(audio.SILENCE_FRAME[law], law) <= 8
    every = bytes(range(256))
    again = audio.encode(audio.decode(every, law), law)
    assert audio.decode(again, law) == audio.decode(every, law)


def test_levels() -> None:
    assert audio.level_dbov(b"") == -100
    assert audio.level_dbov(bytes(320)) == -100
    assert audio.level_dbov(b"\x00\x40" * 160) == pytest.approx(-6.02, abs=0.01)


def test_resampling_keeps_the_length_in_time() -> None:
    assert len(audio.resample(tone(500, rate_hz=16000), 16000, 8000)) == 8000
    pcm = tone(20)
    assert audio.resample(pcm, 8000, 8000) is pcm


def test_wav_round_trip_and_refusals() -> None:
    pcm = tone(40)
    assert audio.read_wav(audio.write_wav(pcm, 8000)) == (pcm, 8000)
    for garbage in (b"", b"RIFFgarbage", audio.write_wav(pcm, 8000)[:30]):
        with pytest.raises(ValueError, match="not a WAV"):
            audio.read_wav(garbage)


def test_silence_around_speech_is_cut_and_pauses_inside_stay() -> None:
    speech = bytes(3200) + tone(200) + bytes(1600) + tone(100) + bytes(6400)
    trimmed = audio.trim_silence(speech, 8000)
    assert abs(len(trimmed) // 16 - (200 + 100 + 100 + 40)) <= 20
    assert tone(200) in trimmed
    assert audio.trim_silence(bytes(1600), 8000) == bytes(1600)
    assert audio.trim_silence(b"", 8000) == b""

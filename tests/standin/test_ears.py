"""gate and ears: where speech begins and ends, and which phrase it was; the ears are pocketsphinx itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sipagent.errors import ConfigError, ToolError
from sipagent.speech import Flite
from sipagent.standin import ears as ears_module
from sipagent.standin.ears import Ears
from sipagent.standin.gate import Gate, SpeechStarted, SpeechStopped
from sipagent.standin.script import load_script
from sipagent.standin.settings import TurnDetection
from sipagent.standin.wire import AudioFormat
from tests.standin.harness import loud, quiet

PCMU = AudioFormat("audio/pcmu", 8000)
OTHER_SPEECH = (
    "the weather in london is nice", "i like bananas and apples", "my cat is called felix",
    "i would like to complain about the noise", "could you repeat that slowly", "do you sell airplanes",
)  # fmt: skip


@pytest.fixture
async def ears() -> AsyncIterator[Ears]:
    ears = Ears(load_script().phrases, processes=2)
    await ears.start()
    yield ears
    await ears.aclose()
    await ears.aclose()


async def said(flite: tuple[str, ...], text: str, voice: str = "slt") -> bytes:
    """As a phone line brings it: 8 kHz µ-law between two silences."""
    pcm, rate_hz = await Flite(flite).synthesize(text, voice)
    return quiet(300) + PCMU.from_pcm(pcm, rate_hz) + quiet(500)


class TestGate:
    def gate(self, *, silence_ms: int = 300, padding_ms: int = 100, threshold: float = 0.5) -> Gate:
        detection = TurnDetection(threshold, silence_ms, padding_ms)
        return Gate(PCMU, detection, level_dbov=None, voice_only=False)

    def test_onset_and_end(self) -> None:
        gate = self.gate()
        events = gate.feed(quiet(1000) + loud(500) + quiet(1000))
        assert [type(event) for event in events] == [SpeechStarted, SpeechStopped]
        started, stopped = events
        assert 800 <= started.at_ms <= 900  # 1000 less the padding and the onset's window
        assert stopped.at_ms == 1800
        assert isinstance(stopped, SpeechStopped)
        assert loud(500) in stopped.audio

    @pytest.mark.parametrize("silence_ms", [0, 200, 800])
    def test_silence_duration_is_honoured(self, silence_ms: int) -> None:
        stopped = self.gate(silence_ms=silence_ms).feed(loud(500) + quiet(2000))[-1]
        assert stopped.at_ms == 500 + max(20, silence_ms)

    @pytest.mark.parametrize("padding_ms", [0, 333, 1000])
    def test_prefix_padding_is_honoured(self, padding_ms: int) -> None:
        stopped = self.gate(padding_ms=padding_ms).feed(quiet(3000) + loud(500) + quiet(500))[-1]
        assert isinstance(stopped, SpeechStopped)
        before = stopped.audio.index(loud(20)) / 8
        assert padding_ms <= before <= padding_ms + 100

    def test_threshold_is_honoured(self) -> None:
        soft = PCMU.from_pcm(b"\xa0\x00\x60\xff" * 4000, 8000)  # about -48 dBov
        assert not self.gate(threshold=0.9).feed(soft)
        assert self.gate(threshold=0.1).feed(soft)

    def test_a_click_is_no_speech(self) -> None:
        assert not self.gate().feed(quiet(200) + loud(20) + quiet(500))

    def test_chunks_of_any_size_give_the_same(self) -> None:
        sound = quiet(333) + loud(501) + quiet(999)
        whole = self.gate().feed(sound)
        gate = self.gate()
        pieces = [event for start in range(0, len(sound), 37) for event in gate.feed(sound[start : start + 37])]
        assert [type(event) for event in whole] == [type(event) for event in pieces]
        assert [event.at_ms for event in whole] == pytest.approx([event.at_ms for event in pieces], abs=20)

    async def test_speech_is_told_from_noise(self, flite: tuple[str, ...]) -> None:
        gate = Gate(PCMU, TurnDetection(0.5, 300, 100), level_dbov=None, voice_only=True)
        events = gate.feed(quiet(500) + await said(flite, "what are your opening hours"))
        assert [type(event) for event in events] == [SpeechStarted, SpeechStopped]


@pytest.mark.parametrize(("voice", "least"), [("slt", 53), ("rms", 55)])
async def test_every_phrase_of_the_script(flite: tuple[str, ...], ears: Ears, voice: str, least: int) -> None:
    """57 phrases; measured with flite 2.2: slt 54, rms 57 (one-syllable words are what is missed)."""
    script = load_script()

    async def right(phrase: str) -> bool:
        heard = await ears.hear(await said(flite, phrase, voice), PCMU)
        return script.intent(heard) is script.intent(phrase)

    # In the script's order: the recogniser adapts to what it heard before, so another order gives other results.
    results = [await right(phrase) for phrase in script.phrases]
    missed = [phrase for phrase, ok in zip(script.phrases, results, strict=True) if not ok]
    assert len(script.phrases) == 57
    assert sum(results) >= least, f"missed: {missed}"


async def test_other_speech_is_not_forced_into_a_phrase(flite: tuple[str, ...], ears: Ears) -> None:
    heard = [await ears.hear(await said(flite, text), PCMU) for text in OTHER_SPEECH]
    assert heard.count("") >= len(OTHER_SPEECH) - 1, heard


async def test_silence_and_nothing_are_no_phrase(ears: Ears) -> None:
    for sound in (b"", b"\xff", quiet(1000), loud(1000)):
        assert await ears.hear(sound, PCMU) == ""


async def test_unknown_words_are_named() -> None:
    ears = Ears(["hello zzyzx"])
    with pytest.raises(ConfigError, match="'zzyzx'"):
        await ears.start()
    await ears.aclose()


async def test_slow_recogniser_is_given_up_and_replaced(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ears_module, "DECODE_TIMEOUT_S", 0.0)
        with pytest.raises(ToolError, match="did not answer"):
            await ears.hear(loud(500), PCMU)
    assert await ears.hear(loud(500), PCMU) == ""


async def test_dead_recogniser_is_replaced(ears: Ears) -> None:
    for process in ears._all:
        assert process._process is not None
        process._process.kill()
    for _ in ears._all:
        with pytest.raises(ToolError, match="recogniser ended"):
            await ears.hear(loud(500), PCMU)
    assert await ears.hear(loud(500), PCMU) == ""


async def test_busy_ears_say_so(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ears_module, "WAIT_TIMEOUT_S", 0.0)
    held = [ears._free.get_nowait() for _ in range(2)]
    with pytest.raises(ToolError, match="busy"):
        await ears.hear(loud(500), PCMU)
    for process in held:
        ears._free.put_nowait(process)

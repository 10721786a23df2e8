"""Who may interrupt the agent, and how soon: frame by frame, on a clock of the test's own."""

from collections.abc import Sequence

import numpy as np
import pytest

from sipagent.asterisk.root import Root
from sipagent.audio import Law, change_law, decode, encode, resample, rms, trim_silence
from sipagent.barge_in import MAX_PAUSE_MS, RESUME_MS, BargeIn, Verdict, pitch
from sipagent.config import BargeInSettings
from sipagent.speech import Flite
from tests.asterisk.fixtures import root
from tests.sounds import Wave, cough, frames, hum, noise, silence, vowel

__all__ = ["root"]
AGENT = frames(vowel(10_000, level=2500, pitch_hz=200))


class Line:
    """An agent that talks without end, and holds its breath when told; a caller on the same 20 ms grid."""

    def __init__(self, law: Law = Law.ULAW, **settings: float) -> None:
        self.ear = BargeIn(law, BargeInSettings.model_validate(settings))
        self.law = law
        self.now = 0.0
        self.sent: list[bytes] = []  # what really left, silence included
        self.talk: list[bytes] = [change_law(frame, Law.ULAW, law) for frame in AGENT]
        self.happened: list[tuple[float, str]] = []
        """(ms, "pause" | "resume" | "cut")"""
        self.quiet_frame = silence(20, law)[0]

    def hear(self, caller: Sequence[bytes]) -> list[str]:
        """Each frame of the caller comes in, then one of the agent leaves."""
        before = len(self.happened)
        for frame in caller:
            self.now += 0.02
            was = self.ear.paused_at is not None
            verdict = self.ear.caller(frame, self.now, talking=True)
            if not was and self.ear.paused_at is not None:
                self._note("pause")
            if verdict:
                self._note("resume" if verdict is Verdict.RESUME else "cut")
            self.speak()
        return [what for _, what in self.happened[before:]]

    def speak(self) -> None:
        if self.ear.paused_at is None:
            self.sent.append(self.talk[len(self.sent) % len(self.talk)])
            self.ear.agent(self.sent[-1])
        else:
            self.sent.append(self.quiet_frame)
            self.ear.silence(self.quiet_frame)

    def _note(self, what: str) -> None:
        self.happened.append((round(self.now * 1000), what))


def test_speech_pauses_the_agent_with_its_second_frame_and_cuts_it_after_200_ms() -> None:
    line = Line()
    assert line.hear(silence(400)) == []
    line.hear(frames(vowel(600)))
    assert line.happened[:2] == [(440, "pause"), (600, "cut")]


@pytest.mark.parametrize("law", Law)
@pytest.mark.parametrize("pitch_hz", [80, 120, 180, 250, 320])
def test_every_pitch_in_both_laws(law: Law, pitch_hz: float) -> None:
    line = Line(law)
    line.hear(silence(400, law))
    assert line.hear(frames(vowel(400, pitch_hz=pitch_hz), law))[:2] == ["pause", "cut"]


@pytest.mark.parametrize("ms", [60, 120, 200, 350, 500])
@pytest.mark.parametrize("seed", range(5))
def test_a_cough_costs_a_moment_and_nothing_else(ms: int, seed: int) -> None:
    line = Line()
    line.hear(silence(400))
    happened = line.hear([*frames(cough(ms, seed=seed)), *silence(600)])
    assert happened == ["pause", "resume"]
    (paused, _), (resumed, _) = line.happened
    assert resumed - paused <= ms + RESUME_MS
    assert line.ear.rejected == 1


def test_one_loud_frame_is_no_reason_to_pause() -> None:
    line = Line()
    assert line.hear([*silence(200), *frames(cough(20, level=9000)), *silence(200)]) == []


def test_a_steady_noise_is_tried_once_and_then_it_is_the_line() -> None:
    line = Line()
    line.hear(silence(400))
    happened = line.hear(frames(noise(5000, level=1500)))
    assert happened == ["pause", "resume"]
    assert line.happened[1][0] - line.happened[0][0] == MAX_PAUSE_MS
    line.ear.settle()  # another answer begins
    assert line.hear(frames(noise(3000, level=1500))) == []
    loud = vowel(400, level=9000) + noise(400, level=1500)
    assert line.hear(frames(loud))[:2] == ["pause", "cut"]  # who speaks up over the noise is heard


def test_mains_hum_is_not_a_voice() -> None:
    line = Line()
    line.hear(silence(400))
    assert "cut" not in line.hear(frames(hum(3000)))


def test_speech_on_a_noisy_line() -> None:
    line = Line()
    line.hear(frames(noise(3000, level=200)))
    assert line.hear(frames(vowel(400) + noise(400, level=200)))[:2] == ["pause", "cut"]


@pytest.mark.parametrize("delay_frames", [1, 3, 8, 15])
@pytest.mark.parametrize("loss_db", [12, 20, 30])
def test_the_agents_own_echo_does_not_even_pause_it(delay_frames: int, loss_db: float) -> None:
    line = echo_line(delay_frames, loss_db, seconds=10)
    assert line.happened == []


@pytest.mark.parametrize("delay_frames", [2, 5, 12, 20])
def test_a_line_with_a_strong_echo_is_learnt(delay_frames: int) -> None:
    line = echo_line(delay_frames, loss_db=3, seconds=20)
    what = [name for _, name in line.happened]
    assert "cut" not in what
    assert what in (["pause", "resume"], ["pause", "resume"] * 2)


def echo_line(delay_frames: int, loss_db: float, seconds: int) -> Line:
    line = Line(Law.ULAW)
    line.talk = speech_like(seconds)
    gain = 10 ** (-loss_db / 20)
    for n in range(seconds * 50):
        back = line.sent[n - delay_frames] if n >= delay_frames else line.quiet_frame
        line.hear([quieter(back, gain)])
    return line


def speech_like(seconds: int) -> list[bytes]:
    """Syllables of many pitches and lengths, with gaps."""
    rng = np.random.default_rng(3)
    parts: list[Wave] = []
    while sum(map(len, parts)) < seconds * 8000:
        parts += [
            vowel(
                int(rng.integers(80, 300)), level=float(rng.integers(1500, 5000)), pitch_hz=float(rng.integers(90, 220))
            ),
            np.zeros(int(rng.integers(20, 150)) * 8),
        ]
    return frames(np.concatenate(parts))


def quieter(frame: bytes, gain: float) -> bytes:
    pcm = np.frombuffer(decode(frame, Law.ULAW), "<i2") * gain
    return encode(pcm.astype("<i2").tobytes(), Law.ULAW)


def test_a_caller_who_speaks_over_a_strong_echo_is_let_in() -> None:
    line = echo_line(5, loss_db=3, seconds=20)
    line.happened.clear()
    assert "cut" in line.hear(frames(vowel(600, level=12000)))


def test_off_means_off_but_the_caller_is_still_timed() -> None:
    line = Line(enabled=False)
    line.hear(silence(400))
    assert line.hear(frames(vowel(600))) == []
    assert line.ear.onset_at == pytest.approx(0.42)
    assert line.ear.voiced_at == pytest.approx(1.0)


def test_confirm_0_leaves_the_cut_to_the_model_and_lets_nobody_wait_for_ever() -> None:
    line = Line(confirm_ms=0)
    line.hear(silence(400))
    assert line.hear(frames(vowel(2000))) == ["pause", "resume"]
    assert line.happened[1][0] - line.happened[0][0] == MAX_PAUSE_MS


def test_the_models_word_settles_it() -> None:
    line = Line()
    line.hear(silence(400))
    line.hear(frames(vowel(100)))
    assert line.ear.paused_at is not None
    line.ear.settle()
    assert line.ear.paused_at is None
    assert line.ear.rejected == 0


@pytest.mark.parametrize("ptime_bytes", [80, 160, 240, 320, 480, 77])
def test_frames_of_any_length(ptime_bytes: int) -> None:
    ear = BargeIn(Law.ULAW, BargeInSettings())
    for frame in AGENT[:20]:
        ear.agent(frame)
    sound = b"".join([*silence(200), *frames(vowel(600))])
    cut_ms = None
    for at in range(0, len(sound), ptime_bytes):
        piece = sound[at : at + ptime_bytes]
        if ear.caller(piece, at / 8000, talking=True) is Verdict.CUT:
            cut_ms = (at + len(piece)) / 8
            break
    assert cut_ms is not None
    assert abs(cut_ms - 400) <= max(20, ptime_bytes / 8)  # 200 ms after the onset, give or take a frame


def test_no_agent_no_interruption() -> None:
    ear = BargeIn(Law.ULAW, BargeInSettings())
    for n, frame in enumerate(frames(vowel(1000))):
        assert ear.caller(frame, n * 0.02, talking=False) is None
    assert ear.paused_at is None


@pytest.mark.parametrize("voice", ["kal", "slt", "rms", "awb"])
@pytest.mark.parametrize(
    "words", ["No, wait a moment, please.", "I only wanted to know the price.", "Yes, yes, alright."]
)
async def test_real_voices_pause_with_their_second_loud_frame_and_cut_within_400_ms(
    root: Root, voice: str, words: str
) -> None:
    pcm, rate_hz = await Flite(root.command("flite"), voice).synthesize(words)
    said = frames(np.frombuffer(trim_silence(resample(pcm, rate_hz, 8000), 8000), "<i2").astype(float))
    line = Line()
    line.hear(silence(400))
    line.hear(said)
    # The agent's echo could be as loud as this; what is softer does not count.
    loud = next(n for n, frame in enumerate(said) if rms(frame, Law.ULAW) > 1000)
    assert line.happened[0][0] - 400 <= 20 * loud + 60
    cut_at = next(n for n, (_, what) in enumerate(line.happened) if what == "cut")
    assert line.happened[cut_at][0] - line.happened[cut_at - 1][0] <= 400  # "No," may be a breath of its own


def test_pitch_tells_voices_from_breath() -> None:
    voiced = [pitch(w.astype(np.float32)) for w in (vowel(40, pitch_hz=hz) for hz in (80, 120, 200, 300))]
    breath = [pitch(cough(40, seed=seed).astype(np.float32)) for seed in range(20)]
    assert min(voiced) > 0.5
    assert max(breath) < 0.5
    assert pitch(np.zeros(10, np.float32)) == 0.0
    assert pitch(np.zeros(320, np.float32)) == 0.0

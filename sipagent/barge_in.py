"""Who may interrupt the agent (core: frames and time in, verdicts out; no socket, no clock).

Interrupting is made in two steps, so that it can be both quick and right. The first is cheap and hasty: two
loud frames of the caller and the agent *pauses*. The second looks closer while the agent holds its breath:
the model's own word, or 200 ms of sound that has a pitch as a voice has, *cuts* the answer; otherwise the
agent *resumes* where it stopped, and a cough has cost a moment and nothing else.

Loud is what stands out of the noise of the line (a floor that follows it) and of the echo of the agent's own
voice (a share of what was sent lately). An echo that gets past that share is found by comparing waveforms
with what was sent, and then the share is raised, so the same line does it once or twice and never again.

webrtcvad was tried as the judge: it calls 74 to 93 % of a synthetic cough speech. The pitch calls 0 % of it
speech, and 69 to 100 % of four flite voices.
"""

from __future__ import annotations

from enum import Enum, auto

import numpy as np
import numpy.typing as npt
from numpy import fft  # not as np.fft, which would be read from the disk at the first interruption

from sipagent import audio, native
from sipagent.audio import FRAME_BYTES, QUIET_RMS, SAMPLE_RATE_HZ, Law
from sipagent.config import BargeInSettings
from sipagent.ring import Ring

RESUME_MS = 120
"""This much quiet and it was no speech; the gaps inside words (p, t, k) are shorter."""
MAX_PAUSE_MS = 1000
"""A noise that goes on without being speech must not keep the agent silent for longer."""
REARM_MS = 200
"""Quiet that ends what was judged to be noise: the next sound is a new one."""
_ECHO_MEMORY_FRAMES = 30
"""600 ms of what was sent: telephone echo comes back within 20 to 400 ms, and 200 ms of it are compared."""
_NOTHING_SENT = [0] * _ECHO_MEMORY_FRAMES
_ECHO_ALIKE = 0.6
"""Normalised cross-correlation over 200 ms; an echo has 0.8 and more, two voices under 0.4."""
_ECHO_MARGIN = 1.4
"""3 dB: speech is not equally loud from frame to frame."""
_PITCHED = 0.5
_PITCH_LAGS = (20, 115)
"""400 to 70 Hz at 8000 samples a second."""
_FLOOR_UP = 1.003
"""A frame; the floor of the line rises by 1.3 dB a second: slower than anybody talks without a pause."""
_BYTES_A_MS = SAMPLE_RATE_HZ // 1000


class Verdict(Enum):
    """What came of a pause."""

    RESUME = auto()
    """It was nothing: the agent goes on where it stopped."""
    CUT = auto()
    """The caller speaks: the rest of the answer must not be heard."""


class BargeIn:
    """One call's ear for interruptions. Feed it every frame of both sides."""

    def __init__(self, law: Law, settings: BargeInSettings) -> None:
        self.voiced_at: float | None = None
        """When the last voiced frame of the caller came in; None before the first."""
        self.onset_at: float | None = None
        """When the caller began to speak: the first voiced frame after `REARM_MS` of quiet."""
        self.paused_at: float | None = None
        """Since when the agent holds its breath; None while it does not."""
        self.rejected = 0
        """Pauses that turned out to be no speech."""
        self._law, self._settings, self._enabled = law, settings, settings.enabled
        self._mu_law = law is Law.ULAW
        self._above_noise = 10 ** (settings.above_noise_db / 20)
        self._echo_share = _ECHO_MARGIN * 10 ** (-settings.echo_loss_db / 20)
        self._floor = float(QUIET_RMS) / self._above_noise
        self._sent = Ring(_ECHO_MEMORY_FRAMES * FRAME_BYTES)
        self._sent_rms = list(_NOTHING_SENT)  # a ring
        self._oldest_sent = self._loudest_sent = 0  # where the one is in it, and how loud the other
        self._loud: list[bytes] = []  # the caller's frames since the onset, while the agent speaks
        self._loud_ms = self._pitched_ms = self._quiet_ms = 0
        self._deaf = False  # to a sound that was judged to be noise, until it ends

    def agent(self, frame: bytes) -> bool:
        """A frame leaves for the caller; True when it is voiced."""
        level = native.rms(frame, self._mu_law)
        self._note_sent(frame, level)
        return level > QUIET_RMS

    def silence(self, frame: bytes) -> None:
        """The same for a frame of silence, which needs no measuring."""
        self._note_sent(frame, 0)

    def _note_sent(self, frame: bytes, level: int) -> None:
        at = self._oldest_sent
        forgotten, self._sent_rms[at] = self._sent_rms[at], level
        self._oldest_sent = at + 1 if at + 1 < _ECHO_MEMORY_FRAMES else 0
        self._sent.append(frame)
        if level >= self._loudest_sent:
            self._loudest_sent = level
        elif forgotten == self._loudest_sent:
            self._loudest_sent = 0
            for one in self._sent_rms:  # compiled, unlike a call of `max` for all of them
                self._loudest_sent = max(self._loudest_sent, one)

    def caller(self, payload: bytes, now: float, talking: bool) -> Verdict | None:
        """A frame of the caller came in at `now`; `talking`: the agent speaks or holds its breath."""
        level = native.rms(payload, self._mu_law)
        span_ms = len(payload) // _BYTES_A_MS
        loud = level > QUIET_RMS and level > self._floor * self._above_noise and level > self._echo_rms()
        self._floor = (self._floor + level) / 2 if level < self._floor else self._floor * _FLOOR_UP + 0.1
        if loud:
            if self.voiced_at is None or self._quiet_ms >= REARM_MS or self.onset_at is None:
                self.onset_at = now
            self.voiced_at = now
            self._quiet_ms = 0
        else:
            self._quiet_ms += span_ms
        if not talking or not self._enabled:
            self._forget()
            return None
        if self._quiet_ms:
            return self._on_quiet(now)
        return self._on_loud(payload, span_ms, now)

    def settle(self) -> None:
        """The answer was cut, by whose word ever: nothing is under judgement any more."""
        self._forget()

    # --- the two steps

    def _on_loud(self, payload: bytes, span_ms: int, now: float) -> Verdict | None:
        if self._deaf:
            return None
        self._loud.append(payload)
        self._loud_ms += span_ms
        if self._is_pitched():
            self._pitched_ms += span_ms
        if self.paused_at is None:
            if self._loud_ms >= self._settings.onset_ms:
                self.paused_at = now
            return None
        confirm_ms = self._settings.confirm_ms
        if confirm_ms and self._loud_ms >= confirm_ms and 2 * self._pitched_ms >= confirm_ms:
            if self._is_echo():
                return self._reject()
            self._forget()
            return Verdict.CUT
        if (now - self.paused_at) * 1000 >= MAX_PAUSE_MS:
            # So long, and no speech: that is what this line sounds like from now on.
            self._floor = max(self._floor, _rms(_samples(b"".join(self._loud[-10:]), self._law)))
            return self._reject()
        return None

    def _on_quiet(self, now: float) -> Verdict | None:
        if self._quiet_ms >= REARM_MS:
            self._deaf = False
        if self.paused_at is None:
            self._forget_sound()
            return None
        if self._quiet_ms >= RESUME_MS or (now - self.paused_at) * 1000 >= MAX_PAUSE_MS:
            self._is_echo()  # learn from it
            return self._reject()
        return None

    def _reject(self) -> Verdict:
        """It was nothing; what still sounds of it is not listened to."""
        self.rejected += 1
        self._forget()
        self._deaf = True
        return Verdict.RESUME

    def _forget(self) -> None:
        self.paused_at = None
        self._deaf = False
        self._forget_sound()

    def _forget_sound(self) -> None:
        if self._loud:
            self._loud = []
        self._loud_ms = self._pitched_ms = 0

    def _echo_rms(self) -> float:
        """The loudest that the agent's echo can be now."""
        return self._loudest_sent * self._echo_share

    # --- the closer look (30 to 200 us, only while a caller makes noise over the agent)

    def _is_pitched(self) -> bool:
        return pitch(_samples(b"".join(self._loud[-2:]), self._law)) > _PITCHED

    def _is_echo(self) -> bool:
        heard = _samples(b"".join(self._loud[-10:]), self._law)
        sent = _samples(bytes(self._sent), self._law)
        if not len(heard) or likeness(heard, sent) < _ECHO_ALIKE:
            return False
        # This line gives back more than we allowed for: from now on the caller must be that much louder.
        share = _ECHO_MARGIN * _rms(heard) / max(self._loudest_sent, 1)
        self._echo_share = min(max(self._echo_share, share), 1.0)
        return True


Samples = npt.NDArray[np.float32]


def _samples(payload: bytes, law: Law) -> Samples:
    return np.frombuffer(audio.decode(payload, law), dtype="<i2").astype(np.float32)


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def pitch(samples: Samples) -> float:
    """How periodic 20 to 40 ms of sound at 8000 Hz are, 0 to 1, at the pitch of a human voice (70 to 400 Hz).

    Normalised autocorrelation; a peak at the edge of the range is no peak (hum, rumble), and gives 0.
    """
    size = len(samples)
    low, high = _PITCH_LAGS
    high = min(high, size * 3 // 4)
    if high - low < 3:
        return 0.0
    centred = samples - samples.mean()
    padded = 1 << (2 * size - 1).bit_length()
    spectrum = fft.rfft(centred, padded)
    correlation = fft.irfft(spectrum * np.conj(spectrum), padded)[low:high]
    energy = np.concatenate(([0.0], np.cumsum(centred.astype(np.float64) ** 2)))
    lags = np.arange(low, high)
    shared = np.sqrt(energy[size - lags] * (energy[size] - energy[lags]))
    normal = correlation / np.maximum(shared, 1.0)
    best = int(np.argmax(normal))
    return float(normal[best]) if 0 < best < len(normal) - 1 else 0.0


def likeness(heard: Samples, sent: Samples) -> float:
    """The best match of `heard` anywhere in `sent`, 0 to 1 (normalised cross-correlation, either sign)."""
    size, span = len(heard), len(sent) - len(heard) + 1
    if span < 1:
        return 0.0
    padded = 1 << (len(sent) - 1).bit_length()
    product = fft.rfft(sent, padded) * np.conj(fft.rfft(heard, padded))
    correlation = fft.irfft(product, padded)[:span]
    energy = np.concatenate(([0.0], np.cumsum(sent.astype(np.float64) ** 2)))
    windows = np.sqrt(np.maximum(energy[size:] - energy[:span], 1.0) * max(float(heard @ heard), 1.0))
    return float(np.max(np.abs(correlation) / windows))

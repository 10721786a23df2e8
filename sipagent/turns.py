"""Where a turn's time goes (core: times in, shares out; reads no clock).

The caller waits from the last voiced frame they sent to the first voiced frame they get. In between lie four
things that different people can mend: the model's wait until it believes that the caller has finished
(a setting), its thinking (the provider), the way there and back (the network), and us.

```
last voiced frame in       speech_stopped in          first audio in   first frame out   first voiced out
        |---- detection + round trip ----|----- model -----|------ own ------|----- model -----|
```

The events of one socket travel equally long, so the round trip lies in the first stretch alone. Silence at
the head of the answer is the model's doing.
"""

from __future__ import annotations


class TurnClock:
    """One call's turns. Times are monotonic seconds, as everywhere in a call."""

    def __init__(self) -> None:
        self._item_id = ""
        self._stopped_at: float | None = None
        self._audio_at: float | None = None

    def speech_stopped(self, now: float) -> None:
        """The model believes that the caller has finished: an answer may come."""
        self._stopped_at, self._audio_at = now, None

    def audio(self, now: float) -> None:
        """Audio of the model came in; only the first of a turn counts."""
        if self._audio_at is None:
            self._audio_at = now

    def answered(
        self, item_id: str, heard_at: float | None, out_at: float, voiced_out_at: float, network_ms: float | None
    ) -> dict[str, float | None] | None:
        """The shares of AgentSpoke in ms, or None when this only goes on with an answer already told of.

        `heard_at`: last voiced frame of the caller since the agent last spoke; `out_at`, `voiced_out_at`: first
        frame and first voiced frame that left.
        """
        same, self._item_id = item_id == self._item_id, item_id
        stopped_at, self._stopped_at = self._stopped_at, None
        audio_at, self._audio_at = self._audio_at, None
        if heard_at is None:
            return None if same else {"latency_ms": None}
        latency_ms = (voiced_out_at - heard_at) * 1000
        own_ms = None if audio_at is None else (out_at - audio_at) * 1000
        detection_ms = None
        if stopped_at is not None:
            detection_ms = max((stopped_at - heard_at) * 1000 - (network_ms or 0), 0)
        model_ms = latency_ms - sum(share or 0 for share in (detection_ms, network_ms, own_ms))
        shares = {
            "latency_ms": latency_ms,
            "detection_ms": detection_ms,
            "model_ms": model_ms,
            "network_ms": network_ms,
            "own_ms": own_ms,
        }
        return {name: None if share is None else round(share, 1) for name, share in shares.items()}

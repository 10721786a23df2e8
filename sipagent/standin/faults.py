"""Faults on order: what the stand-in does wrong, as one value.

A fault is a short text for the command line (`no-ack`, `drop@3.5`, `refuse=429`) and a field here. A session
takes the faults that hold when it opens and keeps them to its end. The fault's behaviour lives where the
right behaviour lives (session, answer, server); this module only names and parses. Those marked "xAI's" repeat
a quirk of that service, and do nothing in OpenAI's dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sipagent.errors import ConfigError

REFUSALS = (400, 401, 403, 429, 503)
"""HTTP statuses the handshake can be refused with."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Everything that can be ordered; the default misbehaves in nothing. Times are seconds since opening."""

    no_ack: bool = False
    """`no-ack`: never a `session.updated`; the update itself takes effect."""
    slow_ack_s: float = 0.0
    """`slow-ack=2.5`: `session.updated` comes that much later."""
    refuse_update: bool = False
    """`refuse-update`: every `session.update` brings an `error`; the old settings stay."""
    reversed_opening: bool = False
    """`reversed-opening`: `conversation.created` before `session.created`. xAI's: OpenAI has only the second."""
    drop_at_s: float | None = None
    """`drop@3.5`: the TCP connection is reset at that time."""
    drop_in_answer: bool = False
    """`drop@answer`: the TCP connection is reset in the middle of an answer."""
    close_code: int | None = None
    """`close=1011@3.5`: a clean WebSocket close with that code ..."""
    close_at_s: float = 0.0
    """... at that time."""
    expire_at_s: float | None = None
    """`expire@5`: an `error` (`max_duration`; OpenAI: `session_expired`), then a close, as at the end of the 120
    (OpenAI: 60) minutes."""
    refuse: int | None = None
    """`refuse=429`: the handshake is answered with that status."""
    hang_handshake: bool = False
    """`hang-handshake`: TCP connects, the upgrade is never answered."""
    slow_handshake_s: float = 0.0
    """`slow-handshake=2`: the upgrade is answered that much later."""
    freeze_at_s: float | None = None
    """`freeze@3`: half-open from then on: nothing is read, no ping answered, nothing said, nothing closed."""
    abandon: int | None = None
    """`abandon`, `abandon=2`: responses (or only the second) stop half-way, with no `response.done`."""
    stuck: int | None = None
    """`stuck`, `stuck=2`: responses (or only the second) are created and never speak."""
    early_calls_s: float = 0.0
    """`early-calls=0.5`: function calls come that much before their `response.done`, so that the caller can interrupt
    in between; with `abandon` there is none, and all is said before."""
    garbage: bool = False
    """`garbage`: broken JSON, binary junk and wrong types between the good events."""
    unknown_events: bool = False
    """`unknown-events`: events of no schema between the good ones."""
    wrong_format: bool = False
    """`wrong-format`: PCM at 24 kHz whatever was asked for (and echoed), with honest durations (OpenAI sends none)."""
    dead_deltas: bool = False
    """`dead-deltas`: audio for response ids that never existed or are over."""
    repeat_transcripts: bool = False
    """`repeat-transcripts`: `transcription.completed` comes several times, each longer. xAI's."""
    repeat_speech_started: bool = False
    """`repeat-speech-started`: a second `speech_started` for the same item."""
    model: str | None = None
    """`model=NAME`: another name in `session.created` than the honest one."""
    ack_truncate: bool = False
    """`ack-truncate`: truncate is acknowledged, as the schema has it (not seen on the real wire). xAI's:
    OpenAI always does."""

    def texts(self) -> list[str]:
        """The faults as the short texts that `parse_faults` reads, for logs."""
        texts = [name for name in _FLAGS if getattr(self, name.replace("-", "_"))]
        for name, field, mark in _NUMBERS:
            value = getattr(self, field)
            if value is not None and value != getattr(_NONE, field):
                texts.append(
                    name if mark == "?" and value == EVERY_RESPONSE else f"{name}{mark}{value}".replace("?", "=")
                )
        if self.drop_in_answer:
            texts.append("drop@answer")
        if self.close_code is not None:
            texts.append(f"close={self.close_code}@{self.close_at_s}")
        return texts


EVERY_RESPONSE = 0
"""The value of `abandon` and `stuck` without a number."""


def _flag(name: str) -> tuple[str, Callable[[str], dict[str, Any]]]:
    return name, lambda _: {name.replace("-", "_"): True}


def _seconds(field: str) -> Callable[[str], dict[str, Any]]:
    def parse(value: str) -> dict[str, Any]:
        seconds = float(value)
        if not 0 <= seconds <= 86400:  # also turns nan away
            raise ValueError("seconds between 0 and 86400 are needed")
        return {field: seconds}

    return parse


def _drop(value: str) -> dict[str, Any]:
    return {"drop_in_answer": True} if value == "answer" else _seconds("drop_at_s")(value)


def _close(value: str) -> dict[str, Any]:
    code, _, at = value.partition("@")
    if not (1000 <= int(code) <= 4999):
        raise ValueError("a close code between 1000 and 4999 is needed")
    return {"close_code": int(code), **_seconds("close_at_s")(at or "0")}


def _refuse(value: str) -> dict[str, Any]:
    if int(value) not in REFUSALS:
        raise ValueError(f"one of {', '.join(map(str, REFUSALS))} is needed")
    return {"refuse": int(value)}


def _which(field: str) -> Callable[[str], dict[str, Any]]:
    return lambda value: {field: int(value) if value else EVERY_RESPONSE}


def _model(value: str) -> dict[str, Any]:
    if not value:
        raise ValueError("a name is needed")
    return {"model": value}


_FLAGS = (
    "no-ack", "refuse-update", "reversed-opening", "hang-handshake", "garbage", "unknown-events",
    "wrong-format", "dead-deltas", "repeat-transcripts", "repeat-speech-started", "ack-truncate",
)  # fmt: skip
_NUMBERS = (  # name, field, what stands between name and value ('?': nothing need follow)
    ("slow-ack", "slow_ack_s", "="), ("drop", "drop_at_s", "@"), ("expire", "expire_at_s", "@"),
    ("refuse", "refuse", "="), ("slow-handshake", "slow_handshake_s", "="), ("freeze", "freeze_at_s", "@"),
    ("early-calls", "early_calls_s", "="), ("abandon", "abandon", "?"), ("stuck", "stuck", "?"),
    ("model", "model", "="),
)  # fmt: skip
_PARSERS: dict[str, Callable[[str], dict[str, Any]]] = dict(map(_flag, _FLAGS))
_PARSERS |= {
    "slow-ack": _seconds("slow_ack_s"),
    "drop": _drop,
    "close": _close,
    "expire": _seconds("expire_at_s"),
    "refuse": _refuse,
    "slow-handshake": _seconds("slow_handshake_s"),
    "freeze": _seconds("freeze_at_s"),
    "early-calls": _seconds("early_calls_s"),
    "abandon": _which("abandon"),
    "stuck": _which("stuck"),
    "model": _model,
}

_NONE = Faults()
_VALUED = {"slow-ack", "drop", "close", "expire", "refuse", "slow-handshake", "freeze", "early-calls", "model"}
KNOWN = tuple(_PARSERS)
"""The names `parse_faults` knows, for help texts."""


def parse_faults(texts: Iterable[str]) -> Faults:
    """Short texts (`no-ack`, `drop@3.5`, `refuse=429`) to one `Faults`; ConfigError names the bad one."""
    faults = Faults()
    for text in texts:
        split = min((i for i in (text.find("="), text.find("@")) if i >= 0), default=len(text))
        name, value = text[:split].strip(), text[split + 1 :].strip()
        parser = _PARSERS.get(name)
        if parser is None:
            raise ConfigError(f"fault {text!r}: unknown; known are {', '.join(KNOWN)}")
        if bool(value) != (name in _VALUED) and name not in {"abandon", "stuck"}:
            hint = "it needs a value, as in 'drop@3.5' or 'refuse=429'" if name in _VALUED else "it takes no value"
            raise ConfigError(f"fault {text!r}: {hint}")
        try:
            faults = replace(faults, **parser(value))
        except ValueError as error:
            raise ConfigError(f"fault {text!r}: {error}") from error
    return faults

"""How a call ended: the reason, and what follows from it for figures, blame and the channel. No I/O, no clock."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec


class Result(StrEnum):
    """How a call counts in the figures."""

    SUCCESS = "success"
    ABANDONED = "abandoned"  # the caller left before anybody could serve them
    FAILURE = "failure"


class Fault(StrEnum):
    """Whose fault a failure is: the first thing a NOC asks."""

    NONE = "none"
    CALLER = "caller"
    OURS = "ours"
    PROVIDER = "provider"  # the voice model's side
    SWITCH = "switch"  # Asterisk


class Reason(StrEnum):
    """Every way a call can end. A bounded list: it is a metric's label."""

    CALLER_HANGUP = "caller_hangup"
    CALLER_CANCELLED = "caller_cancelled"
    NO_INPUT = "no_input"
    MAX_DURATION = "max_duration"
    COMPLETED = "completed"  # the caller was led to the end of their way: an announcement, a person, a mailbox
    REJECTED = "rejected"  # by a route, before the answer
    OPERATOR_HANGUP = "operator_hangup"
    NOT_REACHED = "not_reached"  # a call out that nobody answered; `disposition` says how
    DIAL_REFUSED = "dial_refused"  # a call out that the dial policy did not let out
    UNKNOWN_NUMBER = "unknown_number"
    REALTIME_REFUSED = "realtime_refused"
    REALTIME_UNREACHABLE = "realtime_unreachable"  # no address, no TCP, no TLS, no upgrade, or no session in time
    REALTIME_LOST = "realtime_lost"
    REALTIME_SILENT = "realtime_silent"
    REALTIME_FULL = "realtime_full"  # every session of our quota was taken
    TURNED_AWAY = "turned_away"  # a limit of ours, or no room on this machine
    NO_MEDIA_PORT = "no_media_port"
    NO_AUDIO = "no_audio"  # nothing of the caller's voice ever came
    ARI_FAILED = "ari_failed"
    SWITCH_LOST = "switch_lost"
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal_error"


class _Meaning(NamedTuple):
    result: Result
    fault: Fault
    cause: int
    """Q.850 cause we release the channel with."""


_NORMAL_CLEARING, _UNALLOCATED, _REJECTED = 16, 1, 21
_NETWORK_OUT_OF_ORDER, _TEMPORARY_FAILURE, _CONGESTION = 38, 41, 42

_MEANING = {
    Reason.CALLER_HANGUP: _Meaning(Result.SUCCESS, Fault.NONE, _NORMAL_CLEARING),
    Reason.CALLER_CANCELLED: _Meaning(Result.ABANDONED, Fault.CALLER, _NORMAL_CLEARING),
    Reason.NO_INPUT: _Meaning(Result.SUCCESS, Fault.NONE, _NORMAL_CLEARING),
    Reason.MAX_DURATION: _Meaning(Result.SUCCESS, Fault.NONE, _NORMAL_CLEARING),
    Reason.COMPLETED: _Meaning(Result.SUCCESS, Fault.NONE, _NORMAL_CLEARING),
    Reason.REJECTED: _Meaning(Result.SUCCESS, Fault.NONE, _REJECTED),
    Reason.OPERATOR_HANGUP: _Meaning(Result.SUCCESS, Fault.NONE, _NORMAL_CLEARING),
    Reason.NOT_REACHED: _Meaning(Result.ABANDONED, Fault.CALLER, _NORMAL_CLEARING),
    Reason.DIAL_REFUSED: _Meaning(Result.FAILURE, Fault.CALLER, _REJECTED),
    Reason.UNKNOWN_NUMBER: _Meaning(Result.FAILURE, Fault.CALLER, _UNALLOCATED),
    Reason.REALTIME_REFUSED: _Meaning(Result.FAILURE, Fault.PROVIDER, _NETWORK_OUT_OF_ORDER),
    Reason.REALTIME_UNREACHABLE: _Meaning(Result.FAILURE, Fault.PROVIDER, _NETWORK_OUT_OF_ORDER),
    Reason.REALTIME_LOST: _Meaning(Result.FAILURE, Fault.PROVIDER, _NETWORK_OUT_OF_ORDER),
    Reason.REALTIME_SILENT: _Meaning(Result.FAILURE, Fault.PROVIDER, _NETWORK_OUT_OF_ORDER),
    Reason.REALTIME_FULL: _Meaning(Result.FAILURE, Fault.OURS, _CONGESTION),
    Reason.TURNED_AWAY: _Meaning(Result.FAILURE, Fault.OURS, _CONGESTION),
    Reason.NO_AUDIO: _Meaning(Result.FAILURE, Fault.CALLER, _NORMAL_CLEARING),
    Reason.NO_MEDIA_PORT: _Meaning(Result.FAILURE, Fault.OURS, _CONGESTION),
    Reason.ARI_FAILED: _Meaning(Result.FAILURE, Fault.SWITCH, _TEMPORARY_FAILURE),
    Reason.SWITCH_LOST: _Meaning(Result.FAILURE, Fault.SWITCH, _TEMPORARY_FAILURE),
    Reason.SHUTDOWN: _Meaning(Result.FAILURE, Fault.OURS, _TEMPORARY_FAILURE),
    Reason.INTERNAL_ERROR: _Meaning(Result.FAILURE, Fault.OURS, _TEMPORARY_FAILURE),
}


class CallOutcome(msgspec.Struct, frozen=True):
    """The one way a call ended. Everything but the detail follows from the reason."""

    reason: Reason
    detail: str = ""
    q850: int | None = None
    """A cause of its own, where a route names one."""

    @property
    def result(self) -> Result:
        """Success, abandoned or failure."""
        return _MEANING[self.reason].result

    @property
    def fault(self) -> Fault:
        """Whose fault, `none` for a success."""
        return _MEANING[self.reason].fault

    @property
    def cause(self) -> int:
        """Q.850 cause for the caller's channel."""
        return self.q850 or _MEANING[self.reason].cause

"""What can go wrong, and whose fault it is.

::

    SipAgentError
     |- ConfigError        the operator's file or environment: names file, key and mend
     |- ToolError          a program we need (Asterisk, flite, SIPp) is missing, too old or failed
     |- AriError           Asterisk's REST interface
     |   |- AriUnavailable   nobody answers, or the socket is gone
     |   |- AriRefused       an answer of 400 or more: holds the status
     |- OrderRefused       a worker will not, or cannot, do what the operator asks
     |   |- NoSuchCall        or the call it is about is over
     |   |- NoWorker          or there is none to be asked: nothing has happened
     |   |- Unanswered        or it does not answer: nobody knows whether it has done it
     |- DialingRefused     the dial policy, or a full trunk, lets no call out
     |- RecordingUnreadable  a recording's file is encrypted with another key, damaged, or none
     |- RealtimeError      the voice model's socket
         |- RealtimeRefused  handshake refused: holds the HTTP status
         |- RealtimeFull     all sessions of our quota are taken
         |- RealtimeLost     an open socket died
"""

from __future__ import annotations


class SipAgentError(Exception):
    """Base of every error of ours."""


class ConfigError(SipAgentError):
    """The configuration cannot be used; the text says where and how to mend it."""


class ToolError(SipAgentError):
    """A program we depend on is missing or failed; the text says which and how to get it."""


class AriError(SipAgentError):
    """Base for Asterisk's REST interface."""


class AriUnavailable(AriError):
    """Asterisk did not answer in time, or its socket is gone."""


class AriRefused(AriError):
    """Asterisk answered a request with an error status."""

    def __init__(self, method: str, uri: str, status: int, message: str) -> None:
        super().__init__(method, uri, status, message)
        self.method, self.uri, self.status, self.message = method, uri, status, message

    def __str__(self) -> str:
        return f"ARI {self.method} {self.uri}: {self.status} {self.message}"


class OrderRefused(SipAgentError):
    """A worker is not there, or says no; the text says why."""


class NoSuchCall(OrderRefused):
    """The order is about a call that is not there (any more)."""


class NoWorker(OrderRefused):
    """Nobody was there to be asked, so nothing of it was done."""


class Unanswered(OrderRefused):
    """The order was sent, and no answer came in time: it may have been carried out, or be on its way."""


class DialingRefused(SipAgentError):
    """A call out is not made; the text says why, in words that an agent can tell."""


class NoRoom(SipAgentError):
    """One call more than a limit of ours lets in; the text says which."""


class RecordingUnreadable(SipAgentError):
    """A file of a recording cannot be read; the text says why."""


class RealtimeError(SipAgentError):
    """Base for the voice model's socket."""


class RealtimeRefused(RealtimeError):
    """The handshake was refused. xAI says 400 for a wrong key, 401 for none, 403 for no right, 429 for quota."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status, self.detail = status, detail

    def __str__(self) -> str:
        return f"realtime endpoint refused the connection: HTTP {self.status} {self.detail}".rstrip()


class RealtimeFull(RealtimeError):
    """Every session that the provider gives us is taken; one will be free when another call is over."""


class RealtimeLost(RealtimeError):
    """An open realtime socket ended before the call did."""

"""A message left, and messages heard, in Asterisk's app_voicemail."""

from __future__ import annotations

from collections.abc import Iterable

from sipagent.config import Settings
from sipagent.config.destinations import HANGUP
from sipagent.config.ivr import Text
from sipagent.flow.machine import Flow, Step, ToVoicemail


class VoicemailStep(Step):
    """[mailboxes.NAME]: our greeting, then Asterisk's tone and recorder."""

    kind = "voicemail"

    def __init__(self, name: str, settings: Settings) -> None:
        self._name, self._mailbox = name, settings.mailboxes[name]

    @classmethod
    def texts(cls, settings: Settings) -> Iterable[Text]:
        """The greetings."""
        return [mailbox.greeting for mailbox in settings.mailboxes.values()]

    def enter(self, flow: Flow) -> None:
        """Greet."""
        flow.say(self._mailbox.greeting)

    def key(self, flow: Flow, digit: str) -> None:
        """Those who know the greeting go on to the tone."""
        del digit
        flow.quiet()
        self.heard(flow)

    def heard(self, flow: Flow) -> None:
        """Record."""
        flow.leave(ToVoicemail(self._name))

    def returned(self, flow: Flow, result: str) -> None:
        """Done, or recording failed; either way the caller is ours again."""
        del result
        flow.go(self._mailbox.then)


class MessagesStep(Step):
    """``messages:NAME``: the mailbox's owner listens to it, after its PIN."""

    kind = "messages"

    def __init__(self, name: str, settings: Settings) -> None:
        self._name, self._mailbox = name, settings.mailboxes[name]

    def enter(self, flow: Flow) -> None:
        """Asterisk asks for the PIN."""
        flow.leave(ToVoicemail(self._name, listen=True))

    def returned(self, flow: Flow, result: str) -> None:
        """They have heard enough."""
        del result
        flow.go(HANGUP)

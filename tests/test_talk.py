"""The talk after the caller has gone on: a socket takes a moment to close, and the model may still speak."""

from unittest.mock import MagicMock

from sipagent.flow.phrases import Phrase
from sipagent.talk import Talk
from sipagent.xai import events as xai_events
from sipagent.xai import session as xai


async def test_what_the_model_says_after_its_caller_has_left_is_for_nobody() -> None:
    """Else a menu's listener would cut the next menu's prompt, or hold its clock for ever."""
    room, on_caller = MagicMock(), MagicMock()
    talk = Talk(room, Phrase("We are sorry."), MagicMock())
    talk.on_caller = on_caller
    talk.leave()
    talk.on_session_event(xai_events.SpeechStarted(item_id="i"))
    talk.on_session_event(xai.AgentAudio(item_id="i", audio=b"\xff" * 160))
    room.media.flush.assert_not_called()
    room.media.play.assert_not_called()
    on_caller.assert_not_called()

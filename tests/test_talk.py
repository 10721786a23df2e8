"""The talk after the caller has gone on: a socket takes a moment to close, and the model may still speak."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

from sipagent import model
from sipagent.flow.phrases import Phrase
from sipagent.model import Role
from sipagent.talk import Talk
from sipagent.tools.desk import Desk
from sipagent.xai import events as xai_events
from sipagent.xai import session as xai
from tests.waiting import PATIENCE_S


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


async def test_a_call_that_was_cut_short_chooses_nothing_and_the_desk_is_told_to_refuse_it() -> None:
    """A colleague has not taken a call, nor a caller chosen, in a response that was not completed."""
    call = xai_events.FunctionCall("r", "c", "accept_call", "{}")
    for has_a_desk in (False, True):
        talk, on_function, told = Talk(MagicMock(), Phrase("We are sorry."), MagicMock()), MagicMock(), list[Any]()
        talk.on_function, talk.client = on_function, MagicMock()
        talk.desk = cast("Desk", SimpleNamespace(called=told.append)) if has_a_desk else None
        talk.on_session_event(xai.FunctionCallCut(call))
        on_function.assert_not_called()
        talk.client.session.answer_function_calls.assert_not_called()
        assert told == ([call] if has_a_desk else [])
        talk.send_results({"c": "{}"}, respond=False)
        talk.client.session.whisper.assert_not_called()  # the model knows what it called


async def test_what_is_still_being_said_is_nobodys_record() -> None:
    """The first fifteen digits of a card are no card number to whoever masks them."""
    emit = MagicMock()
    talk = Talk(MagicMock(), Phrase("We are sorry."), emit)
    for text, final in (("4111 1111 1111 111", False), ("4111 1111 1111 1111", True)):
        talk.on_session_event(xai_events.InputTranscript("i", text, final=final))
    told = [call for call in emit.call_args_list if call.args[0] is model.Transcript]
    assert [call.kwargs for call in told] == [{"role": Role.CALLER, "item_id": "i", "text": "4111 1111 1111 1111"}]


def waiting_caller() -> Talk:
    """They hear a word or a soft sound, for the answer is late."""
    room = MagicMock()
    room.media.barge_in.voiced_at, room.media.talking = None, False
    talk = Talk(room, Phrase("We are sorry."), MagicMock())
    room.media.on_talk("prompt:One moment.")
    return talk


async def test_who_was_hushed_is_quiet() -> None:
    """The pacer tells when what was played ran out, and not when it was taken away."""
    talk = waiting_caller()
    talk.company.hush()
    async with asyncio.timeout(PATIENCE_S):
        await talk.until_quiet()


async def test_a_session_lost_while_a_filler_is_heard_leaves_a_quiet_line() -> None:
    """Else nothing would be said for as long as the next session takes."""
    talk = waiting_caller()
    talk.company.keep("One moment.")
    talk.lost()
    async with asyncio.timeout(PATIENCE_S):
        await talk.until_quiet()

"""A menu that also understands words: a voice session that has to choose for the caller, not to chat.

It hears the caller while the prompt is played and the keys work; what was said becomes a key by a function call.
Where the session fails, or does not understand, the keys are still there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from sipagent import model
from sipagent.config import Agent
from sipagent.conversation import Conversation
from sipagent.flow.machine import Listen
from sipagent.house import Policy
from sipagent.room import Room
from sipagent.talk import Emit
from sipagent.xai.events import FunctionCall

CHOOSE = "choose"
_INSTRUCTIONS = """\
You listen to a caller in front of a telephone menu. They have just been asked: "{question}"
These are the choices:
{choices}
When you know which of them the caller wants, call the function {function} with its key and say nothing.
When you do not know, ask in one short sentence. Talk of nothing else. Speak the language "{language}".
"""


def listener(
    call_id: str, room: Room, listen: Listen, policy: Policy, emit: Emit, understood: Callable[[str], None]
) -> Conversation:
    """A conversation for one question, dialled already; `understood(key)` when the caller has said a choice."""
    choices = "\n".join(f"key {key}: {words}" for key, words in listen.words.items())
    instructions = _INSTRUCTIONS.format(
        question=listen.question, choices=choices, function=CHOOSE, language=listen.language
    )
    conversation = Conversation(
        room,
        Agent(instructions=instructions, greeting="", language=listen.language),
        policy,
        emit,
        call_id=call_id,
        instructions=instructions,
        tools=(_tool(listen),),
    )

    def on_function(call: FunctionCall) -> bool:
        key = _key_of(call)
        if key not in listen.words:
            return False
        understood(key)
        return True

    def on_ready(opening: asyncio.Task[None]) -> None:
        """Nobody waits for it, so this is where a failure is told."""
        if not opening.cancelled() and (error := opening.exception()):
            emit(model.RealtimeTrouble, what="listener_unreachable", detail=str(error))

    conversation.talk.on_function = on_function
    conversation.dial().add_done_callback(on_ready)
    return conversation


def _tool(listen: Listen) -> dict[str, Any]:
    return {
        "type": "function",
        "name": CHOOSE,
        "description": "The caller has said which choice of the menu they want.",
        "parameters": {
            "type": "object",
            "properties": {"key": {"type": "string", "enum": list(listen.words), "description": "Its key."}},
            "required": ["key"],
        },
    }


def _key_of(call: FunctionCall) -> str:
    if call.name != CHOOSE:
        return ""
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):  # the model's text may be nested as deeply as it likes
        return ""
    return str(arguments.get("key", "")) if isinstance(arguments, dict) else ""

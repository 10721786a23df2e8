"""What OpenAI's Realtime API reads: its client events, as strict schemas. Data, but for one function.

The keys and limits are those of the published types (openai-python, `types/realtime`); what they leave open is
said where it is decided. Not offered, and refused in plain words: text as output, transcription sessions, and
items of an MCP server.
"""

from __future__ import annotations

from collections.abc import Mapping

from sipagent.standin.schema import (
    Check,
    anything,
    array,
    either,
    flag,
    mapping,
    nullable,
    number,
    one_of,
    record,
    tagged,
    text,
    whole,
)
from sipagent.standin.wire import DEFAULT_PCM_RATE

_ID = text(32)
"""An item's id may have 32 characters: a UUID with its hyphens is refused."""
_MS = whole(0, 2**31)
_VAD_MS = whole(0, 10_000)
"""The service's own limit is not published; 10 s is xAI's."""

FORMAT = tagged(
    "type",
    {
        "audio/pcm": record(type=anything, rate=whole(DEFAULT_PCM_RATE, DEFAULT_PCM_RATE)),
        "audio/pcmu": record(type=anything),
        "audio/pcma": record(type=anything),
    },
)
_TURN_DETECTION = tagged(
    "type",
    {
        "server_vad": record(
            type=anything,
            threshold=number(0, 1),
            prefix_padding_ms=_VAD_MS,
            silence_duration_ms=_VAD_MS,
            # The types name no limits; OpenAI's API description has had 5 to 30 s.
            idle_timeout_ms=nullable(whole(5000, 30_000)),
            create_response=flag,
            interrupt_response=flag,
        ),
        "semantic_vad": record(
            type=anything,
            eagerness=one_of("low", "medium", "high", "auto"),
            create_response=flag,
            interrupt_response=flag,
        ),
    },
)
_TRANSCRIPTION = record(
    model=text(),
    language=nullable(text()),
    languages=array(text()),
    keywords=array(text()),
    prompt=nullable(text()),
    delay=one_of("minimal", "low", "medium", "high", "xhigh"),
)
_VOICE = either(dict, record(("id",), id=text()), text())
_TOOL = tagged(
    "type",
    {
        "function": record(("name",), type=anything, name=text(64), description=text(), parameters=anything),
        "mcp": record(
            ("server_label",),
            type=anything,
            server_label=text(),
            server_url=text(),
            server_description=text(),
            connector_id=text(),
            tunnel_id=text(),
            authorization=text(),
            headers=nullable(anything),
            allowed_tools=nullable(anything),
            allowed_callers=array(one_of("direct", "programmatic")),
            require_approval=nullable(anything),
            defer_loading=flag,
        ),
    },
)
_TOOL_CHOICE = either(
    dict,
    tagged(
        "type",
        {
            "function": record(("name",), type=anything, name=text()),
            "mcp": record(("server_label",), type=anything, server_label=text(), name=nullable(text())),
        },
    ),
    one_of("none", "auto", "required"),
)
_TOKENS = either(str, one_of("inf"), whole(1, 4096))
_PROMPT = nullable(record(("id",), id=text(), version=nullable(text()), variables=nullable(anything)))
_SPOKEN = array(one_of("audio"))  # text as output is not offered here
_REASONING = record(effort=one_of("minimal", "low", "medium", "high", "xhigh"))
_TRACING = nullable(
    either(dict, record(group_id=text(), metadata=anything, workflow_name=text()), one_of("auto")),
)
_TRUNCATION = either(
    dict,
    record(
        ("type", "retention_ratio"),
        type=one_of("retention_ratio"),
        retention_ratio=number(0, 1),
        token_limits=record(post_instructions=whole(0, 2**31)),
    ),
    one_of("auto", "disabled"),
)

_SESSION = tagged(
    "type",
    {
        "realtime": record(
            type=anything,
            model=text(),
            instructions=text(),
            output_modalities=_SPOKEN,
            audio=record(
                input=record(
                    format=FORMAT,
                    noise_reduction=nullable(
                        record(type=one_of("near_field", "far_field"), strength=number(0, 1)),
                    ),
                    transcription=nullable(_TRANSCRIPTION),
                    turn_detection=nullable(_TURN_DETECTION),
                ),
                output=record(format=FORMAT, voice=_VOICE, speed=number(0.25, 1.5)),
            ),
            include=nullable(array(one_of("item.input_audio_transcription.logprobs"))),
            max_output_tokens=_TOKENS,
            parallel_tool_calls=flag,
            prompt=_PROMPT,
            reasoning=_REASONING,
            tool_choice=_TOOL_CHOICE,
            tools=array(_TOOL),
            tracing=_TRACING,
            truncation=_TRUNCATION,
        ),
    },
)


def _message(content: Mapping[str, Check]) -> Check:
    return record(
        ("content",),
        type=anything,
        role=anything,
        content=array(tagged("type", content)),
        id=_ID,
        object=one_of("realtime.item"),
        status=one_of("completed", "incomplete", "in_progress"),
    )


_STATUS: dict[str, Check] = {
    "id": _ID,
    "object": one_of("realtime.item"),
    "status": one_of("completed", "incomplete", "in_progress"),
}
_INPUT_TEXT = record(("text",), type=anything, text=text())
_ITEMS: dict[str, Check] = {
    "message": tagged(
        "role",
        {
            "system": _message({"input_text": _INPUT_TEXT}),
            "user": _message(
                {
                    "input_text": _INPUT_TEXT,
                    "input_audio": record(type=anything, audio=text(), transcript=nullable(text())),
                    "input_image": record(
                        ("image_url",), type=anything, image_url=text(), detail=one_of("auto", "low", "high")
                    ),
                }
            ),
            "assistant": _message(
                {
                    "output_text": record(("text",), type=anything, text=text()),
                    "output_audio": record(type=anything, audio=text(), transcript=nullable(text())),
                }
            ),
        },
    ),
    "function_call": record(
        ("name", "arguments"), type=anything, name=text(), arguments=text(), call_id=_ID, **_STATUS
    ),
    "function_call_output": record(
        ("call_id", "output"), type=anything, call_id=text(), output=text(), **_STATUS
    ),
}  # fmt: skip
_REFERENCE = record(("id",), type=anything, id=text())

_RESPONSE = record(
    instructions=text(),
    conversation=one_of("auto", "none"),
    input=array(tagged("type", {**_ITEMS, "item_reference": _REFERENCE})),
    metadata=nullable(mapping(16, 64, 512)),
    output_modalities=_SPOKEN,
    audio=record(output=record(format=FORMAT, voice=_VOICE)),
    max_output_tokens=_TOKENS,
    parallel_tool_calls=flag,
    prompt=_PROMPT,
    reasoning=_REASONING,
    tool_choice=_TOOL_CHOICE,
    tools=array(_TOOL),
)


def _event(required: tuple[str, ...] = (), /, **fields: Check) -> Check:
    return record(required, type=anything, event_id=nullable(text(512)), **fields)


EVENTS: dict[str, Check] = {
    "session.update": _event(("session",), session=_SESSION),
    "input_audio_buffer.append": _event(("audio",), audio=text()),
    "input_audio_buffer.commit": _event(),
    "input_audio_buffer.clear": _event(),
    "conversation.item.create": _event(
        ("item",), item=tagged("type", _ITEMS), previous_item_id=nullable(text())
    ),
    "conversation.item.truncate": _event(
        ("item_id", "content_index", "audio_end_ms"), item_id=text(), content_index=whole(0, 0), audio_end_ms=_MS
    ),
    "conversation.item.delete": _event(("item_id",), item_id=text()),
    "conversation.item.retrieve": _event(("item_id",), item_id=text()),
    "response.create": _event(response=_RESPONSE),
    "response.cancel": _event(response_id=nullable(text())),
}  # fmt: skip
"""By type, in the order in which the service lists them."""

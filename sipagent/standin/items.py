"""Conversation items as a client writes them: checked, and turned into the shape they are stored and echoed in.

Pure functions. A bad item raises Refusal, which becomes an `error` event.
"""

from __future__ import annotations

from collections.abc import Mapping

from sipagent.standin.wire import Event, NewId, Refusal

_ROLES = ("user", "assistant", "system")
_MAX_PAIRS, _MAX_KEY, _MAX_VALUE = 16, 64, 512  # metadata's documented limits


def wire_item(item: Mapping[str, object], new_id: NewId) -> Event:
    """A `message`, `function_call` or `function_call_output` ready to be stored."""
    kind = item.get("type")
    given = item.get("id")
    base: Event = {
        "id": given if isinstance(given, str) and given else new_id(),
        "object": "realtime.item",
        "type": kind,
        "status": "completed",
    }
    match kind:
        case "message":
            role = item.get("role")
            if role not in _ROLES:
                raise Refusal(f"item.role {role!r} must be one of {', '.join(_ROLES)}", param="item.role")
            return base | {"role": role, "content": _content(item.get("content")), "replayed": False}
        case "function_call":
            call_id = item.get("call_id") or new_id()
            return base | {
                "call_id": text_field({"call_id": call_id}, "call_id"),
                "name": text_field(item, "name"),
                "arguments": text_field(item, "arguments"),
            }
        case "function_call_output":
            return base | {"call_id": text_field(item, "call_id"), "output": text_field(item, "output")}
        case _:
            raise Refusal(f"item.type {kind!r} is not known", param="item.type")


def item_text(item: Mapping[str, object]) -> str:
    """All text in an item's content: typed, spoken or transcribed."""
    content = item.get("content")
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") or part.get("transcript") for part in parts if isinstance(part, dict)]
    return " ".join(text for text in texts if isinstance(text, str)).strip()


def text_field(body: Mapping[str, object], key: str) -> str:
    """A string of the item; Refusal names the key."""
    value = body.get(key)
    if not isinstance(value, str):
        raise Refusal(f"item.{key} must be a string, not {type(value).__name__}", param=f"item.{key}")
    return value


def metadata(value: object) -> Mapping[str, object] | None:
    """`response.metadata` within its limits; None stays None."""
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > _MAX_PAIRS:
        raise Refusal(f"metadata must be an object of at most {_MAX_PAIRS} pairs", param="response.metadata")
    for key, entry in value.items():
        if len(key) > _MAX_KEY or not isinstance(entry, str) or len(entry) > _MAX_VALUE:
            raise Refusal(
                f"metadata: keys of up to {_MAX_KEY} and string values of up to {_MAX_VALUE} characters",
                param="response.metadata",
            )
    return value


def _content(value: object) -> list[Event]:
    if not isinstance(value, list):
        raise Refusal("item.content must be a list", param="item.content")
    parts: list[Event] = []
    for part in value:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise Refusal("item.content: each part must be an object with a type", param="item.content")
        parts.append({key: entry for key, entry in part.items() if key != "audio"})  # sound is not echoed
    return parts

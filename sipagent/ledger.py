"""What was said and done in one call, in order (core: events in, text out; no clock).

What the agent said stands here as the caller heard it: an answer that was spoken over ends where they cut in. It is
the base of what travels with a transferred call, of records and reports, and of going on elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sipagent import model

MAX_ENTRIES = 2000
"""An hour of quick talk is 1200; beyond, the oldest go and are counted."""
MAX_TEXT = 4000
"""Characters of one entry."""
FASTEST_CHARS_A_S = 25
"""About 300 words a minute."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing said or done."""

    at: float
    """Unix seconds."""
    who: str
    """caller, agent, tool, transfer, or hold."""
    text: str
    ok: bool = True
    duration_ms: float | None = None
    name: str = ""
    """Of the tool, or where the call was to go."""


class Ledger:
    """Take every event of a call; ask for what there is."""

    def __init__(self, before: str = "") -> None:
        """`before`: what was said while another worker had the call."""
        self.dropped = 0
        self._before = [line for line in before.split("\n") if line]
        self._entries: dict[str, Entry] = {}
        self._count = 0

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of it, oldest first."""
        return tuple(self._entries.values())

    def take(self, event: model.CallEvent) -> None:
        """One event of the call; those that are neither said nor done pass by."""
        match event:
            case model.Transcript():
                # A later text of the same item takes the place of the earlier one.
                self._put(f"{event.role}:{event.item_id}", Entry(event.at, event.role, event.text[:MAX_TEXT]))
            case model.ToolReturned():
                entry = Entry(event.at, "tool", event.result[:MAX_TEXT], event.ok, event.duration_ms, event.name)
                self._put(f"tool:{self._count}", entry)
            case model.TransferEnded():
                ok = event.result in {"answered", "handed over"}
                self._put(f"transfer:{self._count}", Entry(event.at, "transfer", event.result, ok, name=event.target))
            case model.CallHeld():
                self._put(f"hold:{self._count}", Entry(event.at, "hold", f"held by the {event.by}"))
            case _:
                pass

    def transcript(self, max_chars: int) -> str:
        """What both sides said, a line each; of a long talk the end, from the beginning of a line."""
        kept: list[str] = []
        room = max_chars
        for line in self._lines_back():
            if len(line) + 1 > room:
                break
            room -= len(line) + 1
            kept.append(line)
        return "\n".join(reversed(kept))

    def _lines_back(self) -> Iterator[str]:
        """The newest first: whoever has enough need not hear of an hour's talk."""
        for entry in reversed(self._entries.values()):
            if entry.who in {"caller", "agent"} and entry.text:
                yield f"{entry.who.capitalize()}: {entry.text}"
        yield from reversed(self._before)

    def _put(self, key: str, entry: Entry) -> None:
        self._count += 1
        if key not in self._entries and len(self._entries) >= MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
            self.dropped += 1
        self._entries[key] = entry


def heard(text: str, played_ms: int, dropped_ms: int) -> str:
    """So much of a text as was played of its audio, by its share of what came: whole words only.

    The text may run ahead of its audio, so no more counts as heard than a quick speaker says in that time.
    """
    whole_ms = max(played_ms + dropped_ms, 1)
    cut = min(len(text) * played_ms // whole_ms, played_ms * FASTEST_CHARS_A_S // 1000)
    if cut >= len(text):
        return text
    return text[: cut + 1].rpartition(" ")[0].rstrip()

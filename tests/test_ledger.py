"""What was said and done, as it was heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent import model
from sipagent.ledger import MAX_ENTRIES, Ledger, heard
from sipagent.model import Role


def said(role: Role, item: str, text: str, *, at: float = 0, cut: bool = False) -> model.Transcript:
    return model.Transcript(call_id="c", at=at, role=role, item_id=item, text=text, cut=cut)


def test_a_cut_answer_takes_the_place_of_the_whole_one() -> None:
    ledger = Ledger()
    ledger.take(said(Role.AGENT, "a", "We are open from nine to five."))
    ledger.take(said(Role.CALLER, "b", "And on Sunday?"))
    ledger.take(said(Role.AGENT, "a", "We are open", cut=True))
    assert [(entry.who, entry.text) for entry in ledger.entries] == [
        ("agent", "We are open"),
        ("caller", "And on Sunday?"),
    ]
    assert ledger.transcript(1000) == "Agent: We are open\nCaller: And on Sunday?"


def test_tools_transfers_and_holds_stand_between_the_words() -> None:
    ledger = Ledger()
    for event in (
        said(Role.CALLER, "a", "Where is it?"),
        model.ToolReturned(call_id="c", at=2, name="order", ok=False, duration_ms=12.5, bytes=3, result="no"),
        model.TransferEnded(call_id="c", at=3, target="boss", result="busy"),
        model.CallHeld(call_id="c", at=4, by="caller"),
        model.FalseBargeIn(call_id="c", at=5, paused_ms=20),
    ):
        ledger.take(event)
    kinds = [(entry.who, entry.name, entry.ok, entry.duration_ms) for entry in ledger.entries]
    assert kinds == [
        ("caller", "", True, None), ("tool", "order", False, 12.5), ("transfer", "boss", False, None),
        ("hold", "", True, None),
    ]  # fmt: skip
    assert ledger.transcript(1000) == "Caller: Where is it?"


def test_a_long_talk_is_bounded_and_its_end_is_what_is_told() -> None:
    ledger = Ledger()
    for n in range(MAX_ENTRIES + 5):
        ledger.take(said(Role.CALLER, str(n), f"line {n}"))
    assert (len(ledger.entries), ledger.dropped) == (MAX_ENTRIES, 5)
    assert ledger.transcript(40) == f"Caller: line {MAX_ENTRIES + 3}\nCaller: line {MAX_ENTRIES + 4}"
    assert ledger.transcript(3) == ""


@pytest.mark.parametrize(
    ("played_ms", "dropped_ms", "text"),
    [
        (0, 1000, ""),
        (2000, 0, "We are open from nine"),
        (1000, 1000, "We are"),
        (200, 5000, ""),
        (2000, 4000, "We are"),
    ],
)
def test_so_much_was_heard(played_ms: int, dropped_ms: int, text: str) -> None:
    assert heard("We are open from nine", played_ms, dropped_ms) == text


def test_a_text_that_runs_ahead_of_its_audio_is_not_heard_faster_than_anybody_speaks() -> None:
    assert len(heard("word " * 200, 1000, 0)) <= 25


@given(st.text(max_size=200), st.integers(0, 100_000), st.integers(0, 100_000))
def test_what_was_heard_is_a_beginning_of_what_was_said(text: str, played_ms: int, dropped_ms: int) -> None:
    assert text.startswith(heard(text, played_ms, dropped_ms))

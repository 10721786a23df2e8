"""How much of what the agent said has been heard."""

from __future__ import annotations

from sipagent.media import Flushed
from sipagent.words import MAX_ITEMS, Words


def test_the_item_under_way_was_heard_in_part_and_those_behind_it_not_at_all() -> None:
    words = Words()
    for item_id, text in (("a", "Heard to its end."), ("b", "one two three four"), ("c", "Never begun.")):
        assert words.said(item_id, text)
    heard = dict(words.cut(Flushed("b", played_ms=500, dropped_ms=900, dropped_of_item_ms=500)))
    assert list(heard) == ["b", "c"]
    assert heard["b"]
    assert "one two three four".startswith(heard["b"].rstrip(" .…"))
    assert heard["b"] != "one two three four"
    assert heard["c"] == ""


def test_what_the_model_still_tells_of_what_was_cut_is_not_told() -> None:
    words = Words()
    words.said("a", "Hello")
    list(words.cut(Flushed("a", played_ms=100, dropped_ms=100)))
    assert not words.said("a", "Hello, how are you?")
    assert words.said("b", "Yes?")


def test_an_item_that_nobody_knows_is_cut_all_the_same() -> None:
    words = Words()
    assert list(words.cut(Flushed("a", played_ms=100, dropped_ms=100))) == []
    assert not words.said("a", "too late")


def test_what_was_heard_long_ago_is_forgotten() -> None:
    words = Words()
    for number in range(MAX_ITEMS + 2):
        words.said(str(number), "x")
    assert len(list(words.cut(Flushed("2", played_ms=0, dropped_ms=0)))) == MAX_ITEMS

"""What may be kept of an event."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent import model
from sipagent.model import Role
from sipagent.records import redaction
from sipagent.records.redaction import Redaction, mask_cards
from tests.records.talk import call


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4111111111111111", "************1111"),
        ("It is 4111 1111 1111 1111, thank you", "It is **** **** **** 1111, thank you"),
        ("4111-1111-1111-1111 valid 12/27", "****-****-****-1111 valid 12/27"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "* * * * * * * * * * * * 1 1 1 1"),
        ("4111, 1111, 1111, 1111.", "****, ****, ****, 1111."),
        ("378282246310005 and 5500 0000 0000 0004", "***********0005 and **** **** **** 0004"),
        ('{"card":"4111111111111111"}', '{"card":"************1111"}'),
        ("4111 1111 1111 1111 12/27", "**** **** **** 1111 12/27"),
        ("order 4711, the 4111111111111112", "order 4711, the 4111111111111112"),  # Luhn says no
        ("call +44 20 7946 0123", "call +44 20 7946 0123"),
        ("411111111111", "411111111111"),  # too short
        ("", ""),
    ],
)
def test_card_numbers_are_masked(text: str, masked: str) -> None:
    assert mask_cards(text) == masked


def luhn_digit(digits: str) -> str:
    total = sum(sum(divmod(int(d) * (2 - n % 2), 10)) for n, d in enumerate(reversed(digits)))
    return str(-total % 10)


@given(
    st.text("0123456789", min_size=12, max_size=18),
    st.sampled_from(["", " ", "-", ", "]),
    st.text("abc +,", max_size=20),
)
def test_any_card_however_it_is_read_out(digits: str, between: str, around: str) -> None:
    card = digits + luhn_digit(digits)
    text = mask_cards(f"{around} x {between.join(card)} x {around}")
    assert between.join(card[:-4]) not in text or set(card[:-4]) == {"*"}
    assert text.count("*") >= len(card) - 4
    assert mask_cards(text) == text


def test_numbers_and_speech_as_the_operator_wants_them() -> None:
    started, routed, *_ = call()
    said = model.Transcript(call_id="c", at=0, role=Role.CALLER, item_id="i", text="My name is Ann")
    dialled = model.StepEntered(call_id="c", at=0, step="dial:+442079460123@vonage")
    keep, two, none = Redaction(), Redaction("last_two", "drop"), Redaction("none", "drop")
    assert keep.for_disk(started) == started
    assert keep.for_disk(said) == said
    assert getattr(two.for_disk(started), "caller", "") == "***********23"
    assert getattr(two.for_disk(started), "called", "") == "100"  # an extension tells nobody anything
    assert getattr(none.for_disk(started), "caller", "") == "*"
    assert getattr(two.for_disk(said), "text", "") == ""
    assert getattr(two.for_disk(dialled), "step", "") == "dial:***********23@vonage"
    assert two.for_disk(routed) == routed
    for rules in (keep, two, none):
        for event in call():
            once = rules.for_disk(event)
            assert rules.for_history(once) == once


PLAIN = {
    # Names of ours, of the configuration's and of the provider's; causes; what programs say.
    "call_id", "endpoint", "codec", "route", "leg", "trunk", "purpose", "result", "why", "asked_by", "by", "agent",
    "mailbox", "callback_id", "what", "who", "said_by", "detail", "recording_id", "path", "format", "sha256", "how",
    "name", "model", "requested_model", "conversation_id", "item_id", "confirmed_by",
    "traceparent", "tool_call_id", "action", "limit",
}  # fmt: skip


@pytest.mark.parametrize("kind", get_args(model.CallEvent), ids=lambda kind: kind.__name__)
def test_no_text_of_any_event_is_forgotten(kind: type[msgspec.Struct]) -> None:
    """A new field is a number, a place, speech, or said here to be none of them."""
    tables = (redaction._NUMBER_FIELDS, redaction._PLACE_FIELDS, redaction._SPEECH_FIELDS)
    known = PLAIN.union(*(table.get(kind, ()) for table in tables))
    texts = {field.name for field in msgspec.structs.fields(kind) if field.type is str}
    assert texts - known == set()


def test_what_must_be_served_keeps_its_number_until_it_is_history() -> None:
    rules = Redaction("none", "drop")
    message = model.MessageTaken(call_id="c", at=0, mailbox="office", text="4111111111111111", number="+442079460123")
    kept = rules.for_disk(message)
    assert kept == model.MessageTaken(
        call_id="c", at=0, mailbox="office", text="************1111", number="+442079460123"
    )
    assert rules.for_history(kept) == model.MessageTaken(call_id="c", at=0, mailbox="office", text="", number="*")

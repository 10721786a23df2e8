"""What of an event may be kept: decided here, before anything touches a disk (core).

Card numbers never: thirteen to nineteen digits that pass Luhn's check, also when somebody reads them out with
pauses or a transcriber writes them in groups, lose all but their last four (PCI DSS 3.4 lets those be shown).
Phone numbers and what was said are kept as the operator wants it. A message and a call-back are the exception
while they are open: without its number nobody could be called back, so they hold it, and their event does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import msgspec

from sipagent import model

Numbers = Literal["keep", "last_two", "none"]
Transcripts = Literal["keep", "drop"]

_DIGITS = re.compile(r"\d+(?:[\s.,/\u2010-\u2015-]{1,3}\d+)*")
"""Groups of digits with not much between them: where one can be read out as a card, it stands in one of these."""
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_CARD_MIN, _CARD_MAX, _SHOWN = 13, 19, 4
_LONG_NUMBER = re.compile(r"\+?\d{5,}")
"""In a destination, as dial:+442079460123@vonage; extensions are shorter, and tell nobody anything."""

_Fields = Mapping[type[msgspec.Struct], tuple[str, ...]]
_NUMBER_FIELDS: _Fields = {
    model.CallStarted: ("caller", "called"),
    model.CallAdopted: ("caller", "called"),
    model.LegDialled: ("to",),
    model.DialRefused: ("to",),
    model.MessageTaken: ("number",),
    model.CallbackRequested: ("number",),
}
_PLACE_FIELDS: _Fields = {
    model.CallRouted: ("destination",),
    model.StepEntered: ("step",),
    model.CallAdopted: ("step",),
    model.StepRetried: ("step",),
    model.TurnedAway: ("to",),
    model.TransferStarted: ("target",),
    model.TransferEnded: ("target",),
}
_SPEECH_FIELDS: _Fields = {
    model.Transcript: ("text",),
    model.ToolCalled: ("arguments",),
    model.ToolReturned: ("result",),
    model.MessageTaken: ("text",),
    model.CallbackRequested: ("reason",),
    model.TransferStarted: ("summary",),
}

E = TypeVar("E", bound=msgspec.Struct)


def last_two(number: str) -> str:
    """All but the last two digits hidden; short extensions tell nobody anything and stay."""
    return number if len(number) <= 4 else "*" * (len(number) - 2) + number[-2:]


def numbers_of(place: str, shown: Callable[[str], str]) -> str:
    """The name of a destination or a step, the numbers in it as `shown` has them."""
    return _LONG_NUMBER.sub(lambda match: shown(match[0]), place)


def mask_cards(text: str) -> str:
    """What somebody said with the digits of card numbers, all but the last four of each, as asterisks."""
    return _DIGITS.sub(lambda match: _masked(match[0]), text)


def _masked(text: str) -> str:
    """Whole groups at a time: every row of them that could be a card counts, also where two overlap."""
    groups = [(match.start(), match.end()) for match in re.finditer(r"\d+", text)]
    out, in_card = list(text), [False] * (len(groups) + 1)
    for first in range(len(groups)):
        digits = ""
        for last in range(first, len(groups)):
            digits += text[slice(*groups[last])]
            if len(digits) > _CARD_MAX:
                break
            if len(digits) >= _CARD_MIN and _luhn(digits):
                in_card[first : last + 1] = [True] * (last + 1 - first)
    hidden: list[int] = []
    for number, group in enumerate(groups):
        hidden += range(*group) if in_card[number] else ()
        if not in_card[number + 1]:
            for place in hidden[:-_SHOWN]:
                out[place] = "*"
            hidden = []
    return "".join(out)


def _luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    doubled = (int(digit) if place % 2 == 0 else _DOUBLED[int(digit)] for place, digit in enumerate(reversed(digits)))
    return sum(doubled) % 10 == 0


class Redaction:
    """The operator's rules, as [records] has them."""

    def __init__(self, numbers: Numbers = "keep", transcripts: Transcripts = "keep") -> None:
        self._numbers, self._transcripts = numbers, transcripts

    def for_disk(self, event: model.CallEvent) -> model.CallEvent:
        """An event as it may be kept; a message and a call-back as they can be served."""
        if isinstance(event, model.MessageTaken | model.CallbackRequested):
            return _changed(event, _SPEECH_FIELDS, mask_cards)
        return self.for_history(event)

    def for_history(self, event: model.CallEvent) -> model.CallEvent:
        """An event as it may be kept; doing it twice changes nothing more."""
        event = _changed(event, _NUMBER_FIELDS, self._number)
        event = _changed(event, _PLACE_FIELDS, lambda place: numbers_of(place, self._number))
        return _changed(event, _SPEECH_FIELDS, self._speech)

    def _number(self, number: str) -> str:
        match self._numbers:
            case "keep":
                return number
            case "last_two":
                return last_two(number)
            case "none":
                return "*" if number else ""

    def _speech(self, text: str) -> str:
        return mask_cards(text) if self._transcripts == "keep" else ""


def _changed(event: E, fields: _Fields, change: Callable[[str], str]) -> E:
    names = fields.get(type(event), ())
    changes = {name: change(getattr(event, name)) for name in names}
    return msgspec.structs.replace(event, **changes) if changes else event

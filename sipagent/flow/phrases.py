"""Texts as they are spoken: in a language, with their variables, cut into pieces that can be made in advance.

What is known when the configuration is read ([variables]) is filled in then. What only the call knows is a
number, as its digits are spoken one by one; so every piece is known in advance, and nothing has to be made
while a caller waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sipagent.config.ivr import Text
from sipagent.config.policy import PLACEHOLDER

RECORDING = "file:"
_DIGITS = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "star", "hash", "plus"),
    "de": ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "Stern", "Raute", "plus"),
    "es": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "asterisco",
           "almohadilla", "más"),
    "fr": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "étoile", "dièse", "plus"),
    "it": ("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove", "asterisco",
           "cancelletto", "più"),
    "nl": ("nul", "een", "twee", "drie", "vier", "vijf", "zes", "zeven", "acht", "negen", "ster", "hekje", "plus"),
    "pt": ("zero", "um", "dois", "três", "quatro", "cinco", "seis", "sete", "oito", "nove", "asterisco", "cardinal",
           "mais"),
}  # fmt: skip
_KEYS = "0123456789*#+"


class Phrase(NamedTuple):
    """One piece of speech: made once, kept by its content."""

    text: str
    """Words, or ``file:`` and a recording beside sipagent.toml."""
    language: str = "en"


def phrases_in_advance(text: Text, default: str, fixed: Mapping[str, str]) -> Iterator[Phrase]:
    """Every piece that may be needed to say a text, in every language it is written in.

    `fixed` are [variables]; all digits are needed for the others. `default` is the language of a plain text.
    """
    spoken = {default: text} if isinstance(text, str) else text
    for language, words in spoken.items():
        yield from _pieces(words, language, fixed, None)


def phrases_now(
    text: Text, default: str, fixed: Mapping[str, str], language: str, call: Mapping[str, str]
) -> Iterator[Phrase]:
    """The pieces for one caller: in `language` if the text is written in it, with the call's own variables."""
    if isinstance(text, str):
        yield from _pieces(text, default, fixed, call)
        return
    known = next(
        (name for name in (language, language.split("-", maxsplit=1)[0], default) if name in text), next(iter(text))
    )
    yield from _pieces(text[known], known, fixed, call)


def _pieces(words: str, language: str, fixed: Mapping[str, str], call: Mapping[str, str] | None) -> Iterator[Phrase]:
    if words.startswith(RECORDING):
        yield Phrase(words, language)
        return
    rest = ""
    for place, part in enumerate(PLACEHOLDER.split(words)):
        if place % 2 == 0:
            rest += part
        elif part in fixed:
            rest += fixed[part]
        else:
            yield from _words(rest, language)
            rest = ""
            yield from digits(_KEYS if call is None else call.get(part, ""), language)
    yield from _words(rest, language)


def _words(text: str, language: str) -> Iterator[Phrase]:
    if re.search(r"\w", text):
        yield Phrase(" ".join(text.split()).lstrip(".,;: "), language)


def digits(number: str, language: str) -> Iterator[Phrase]:
    """A number as its digits; a language without words for them says them in English."""
    tongue = language.split("-", maxsplit=1)[0] if language.split("-", maxsplit=1)[0] in _DIGITS else "en"
    for key in number:
        if key in _KEYS:
            yield Phrase(_DIGITS[tongue][_KEYS.index(key)], tongue)

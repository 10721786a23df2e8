"""What a caller meets before, between and instead of an agent: menus, announcements, digits, queues, mailboxes."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from sipagent import patterns
from sipagent.config import regular
from sipagent.config.base import Section
from sipagent.config.destinations import HANGUP, Destination

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")


def _text(value: object) -> object:
    """By hand: pydantic would complain of a text and of a table at once."""
    if not isinstance(value, str | dict):
        raise ValueError(  # noqa: TRY004 - pydantic takes no TypeError
            'a text, or one for each language: { en = "Hello.", es = "Hola." }'
        )
    by_language = {"en": value} if isinstance(value, str) else value
    for language, words in by_language.items():
        if not _LANGUAGE.fullmatch(str(language)):
            raise ValueError(f"{language!r} is no language; they are named as en, de, es-MX")
        if not (isinstance(words, str) and words.strip()):
            raise ValueError("nothing to say would be a silence in a call")
    if not by_language:
        raise ValueError("nothing to say would be a silence in a call")
    return value


Text = Annotated[str | dict[str, str], BeforeValidator(_text)]
"""Spoken as it stands, or by language: { en = "Hello.", es = "Hola." }. "file:hello.wav" is a recording."""


def _keys(keys: dict[str, Destination]) -> dict[str, Destination]:
    for key in keys:
        patterns.compiled(key)
        if not (key.startswith("_") or "-" in key or set(key) <= set(patterns.KEYS)):
            raise ValueError(f"{key!r} cannot be dialled: keys are 0-9, * and #, or a pattern of them as _4XX")
    return keys


Keys = Annotated[dict[str, Destination], AfterValidator(_keys)]


class Menu(Section):
    """A question that is answered with a key, or with a word."""

    prompt: Text
    keys: Keys = Field(min_length=1)
    """Key -> destination. More than one digit and patterns too: "_4XX" = "dial:{digits}@pbx"."""
    language: str = ""
    """What is spoken from here on; empty: as it was."""
    timeout_s: float = Field(5.0, ge=1, le=60)
    """After the prompt, until the caller counts as undecided."""
    interdigit_s: float = Field(2.0, ge=0.5, le=10)
    """After a digit that may be the whole choice or only its beginning."""
    retries: int = Field(2, ge=0, le=9)
    no_input: Text = "I did not hear your choice."
    invalid: Text = "That is not one of the choices."
    give_up: Destination = HANGUP
    """Where the undecided go."""
    words: dict[str, str] = {}
    """Key -> what a caller may say for it, in words: the menu then listens too (`listen`)."""

    @model_validator(mode="after")
    def _words_of_keys(self) -> Menu:
        for key in self.words:
            if key not in self.keys:
                raise ValueError(f"words.{key}: there is no such key in this menu")
            if not set(key) <= set(patterns.KEYS):
                raise ValueError(f"words.{key}: a pattern has no word; give the words to a key of its own")
        return self


class Announcement(Section):
    """Something to hear."""

    prompt: Text
    answer: bool = True
    """False: heard before the answer (early media), so that the call is not charged."""
    then: Destination = HANGUP


class Collect(Section):
    """Digits of the caller into a variable: {account} in later prompts and in the agent's instructions."""

    prompt: Text
    variable: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    min_digits: int = Field(1, ge=1, le=40)
    max_digits: int = Field(20, ge=1, le=40)
    terminator: Literal["", "#", "*"] = "#"
    pattern: Annotated[str, AfterValidator(regular.checked)] = ""
    """A regular expression for the whole."""
    confirm: bool = False
    confirmation: Text = "You entered {digits}. If that is right, press 1. To try again, press 2."
    timeout_s: float = Field(6.0, ge=1, le=60)
    interdigit_s: float = Field(3.0, ge=0.5, le=10)
    retries: int = Field(2, ge=0, le=9)
    no_input: Text = "I did not hear a number."
    invalid: Text = "That number is not complete."
    then: Destination
    give_up: Destination = HANGUP

    @model_validator(mode="after")
    def _in_order(self) -> Collect:
        if self.min_digits > self.max_digits:
            raise ValueError("min_digits is more than max_digits")
        return self


class Dial(Section):
    """A second leg: a person, an extension of the PBX, an outside number."""

    number: str = Field(pattern=r"^[0-9+*#A-Za-z._-]+$")
    trunk: str
    timeout_s: float = Field(30.0, ge=1, le=300)
    then: Destination = HANGUP
    """When nobody answers."""


class Queue(Section):
    """People who answer in turn (Asterisk's app_queue)."""

    members: tuple[Annotated[str, Field(pattern=r"^([0-9A-Za-z+*#._-]+@)?[A-Za-z0-9._-]+$")], ...] = Field(min_length=1)
    """Phone accounts, or extensions of a trunk as 401@pbx; no numbers outside, which the dial policy would not see."""
    strategy: Literal[
        "ringall", "leastrecent", "fewestcalls", "random", "rrmemory", "linear", "wrandom", "rrordered"
    ] = "ringall"
    ring_s: float = Field(20.0, ge=3, le=120)
    timeout_s: float = Field(300.0, ge=5, le=7200)
    """Longest wait; then `then`."""
    announce_position: bool = True
    announce_every_s: float = Field(45.0, ge=10, le=600)
    max_callers: int = Field(0, ge=0, le=1000)
    """0: as many as come."""
    keys: Keys = {}
    """A key takes the caller out of the queue; other keys do nothing."""
    then: Destination = HANGUP
    """Nobody answered in time, the queue is full or nobody is logged in."""


class Mailbox(Section):
    """Voicemail (Asterisk's app_voicemail)."""

    greeting: Text = "Please leave a message after the tone. To end, press the hash key or hang up."
    pin: SecretStr = SecretStr("")
    """4 to 10 digits, asked of who goes to messages:NAME; empty: messages are not heard by phone."""
    email: str = Field("", pattern=r"^$|^[^@\s,|;]+@[^@\s,|;]+$")
    """Where messages are sent, if this machine can send mail; empty: nowhere."""
    max_message_s: float = Field(180.0, ge=10, le=3600)
    then: Destination = HANGUP

    @field_validator("pin")
    @classmethod
    def _digits(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"|\d{4,10}", value.get_secret_value()):
            raise ValueError("a PIN is 4 to 10 digits")
        return value

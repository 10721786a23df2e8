"""The recogniser's process: pocketsphinx with one grammar, fed over stdin. Run by path, not imported.

One process hears one utterance at a time, so decoding (20 to 130 ms of a core, holding the interpreter's
lock) never stops the event loop. In: frames of a 4-byte length and that many bytes, first the set-up as JSON,
then PCM16 at 16 kHz. Out: one JSON line for each. Ends when stdin does. Imports nothing of ours: it starts in
a quarter of a second.
"""

from __future__ import annotations

import json
import sys
from typing import Any, BinaryIO

SAMPLE_RATE_HZ = 16000

_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
PHONES = (*_VOWELS.split(), *_CONSONANTS.split())
"""The acoustic model's phones. Each is also a word, for the part of the grammar that catches other speech."""
OTHER = "qqq"
"""Prefix of those words: no word of English begins so."""


def make_decoder(grammar: str) -> Any:
    """A decoder that knows the dictionary, and the JSGF grammar if one is given."""
    from pocketsphinx import Decoder  # noqa: PLC0415 - ears.py imports this file for its names alone

    decoder = Decoder(samprate=SAMPLE_RATE_HZ, loglevel="FATAL", lm=None, bestpath=False, cmn="batch")
    for phone in PHONES:
        decoder.add_word(OTHER + phone.lower(), phone, phone == PHONES[-1])
    if grammar:
        decoder.add_jsgf_string("script", grammar)
        decoder.activate_search("script")
    return decoder


def decode(decoder: Any, pcm: bytes) -> str:
    """The grammar's best path for an utterance; '' if there is none."""
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis is not None else ""


def _frame(source: BinaryIO) -> bytes | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    return source.read(int.from_bytes(head, "big"))


def _answer(body: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(body) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until stdin ends."""
    setup = _frame(sys.stdin.buffer)
    if setup is None:
        return
    wanted = json.loads(setup)
    decoder = make_decoder("")
    unknown = [word for word in wanted["words"] if decoder.lookup_word(word) is None]
    if not unknown:
        decoder = make_decoder(wanted["grammar"])
    _answer({"unknown": unknown})
    while (pcm := _frame(sys.stdin.buffer)) is not None:
        _answer({"text": decode(decoder, pcm)})


if __name__ == "__main__":
    main()

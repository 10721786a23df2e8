"""What is fuzzed: for each place where something comes from outside, how an input is made and what must hold of it.

An input that raises anything but what the place promises is a finding. Every input is made of its own chance, so one
number repeats it, whatever went before.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.fuzz.mutate import as_text, spoil_bytes, spoil_json, spoil_toml
from sipagent import carried
from sipagent.ari import events as ari
from sipagent.ari.client import AriClient
from sipagent.audio import FRAME_BYTES, Law
from sipagent.config import load
from sipagent.errors import ConfigError
from sipagent.rtp.packet import RtpPacket, build, parse
from sipagent.rtp.session import RtpSession
from sipagent.standin.config import Dialect, Mode, StandinConfig
from sipagent.standin.outputs import Send
from sipagent.standin.pattern import pattern
from sipagent.standin.session import Session
from sipagent.standin.wire import encode
from sipagent.xai import events as xai
from sipagent.xai.dialect import DIALECTS, OPENAI, SessionConfig
from sipagent.xai.session import RealtimeSession

EXAMPLE = Path(__file__).parents[2] / "sipagent.example.toml"
LONGEST_LINE = 2000
"""Of an error that an operator has to read."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place. `make` an input, `hold` it to what is promised."""

    name: str
    make: Callable[[random.Random], Any]
    hold: Callable[[Any], None]


# --- RTP


def _datagram(chance: random.Random) -> bytes:
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(64))
    sound = build(
        chance.choice((0, 8, 13, 101)), chance.getrandbits(16), chance.getrandbits(32), chance.getrandbits(32),
        chance.randbytes(chance.choice((0, 1, 4, 80, 160, 320))), chance.random() < 0.2,
    )  # fmt: skip
    return spoil_bytes(sound, chance) if chance.random() < 0.8 else sound


def _hold_packet(datagram: bytes) -> None:
    packet = parse(datagram)
    if packet is not None and parse(bytes(packet)) != packet:
        raise AssertionError(f"{packet} does not come back from its own bytes")


def _stream(chance: random.Random) -> list[tuple[float, bytes]]:
    """A call's datagrams, most of them in order: time since the one before, and bytes."""
    sequence, timestamp, ssrc = chance.getrandbits(16), chance.getrandbits(32), chance.getrandbits(32)
    stream = []
    for _ in range(chance.randint(5, 60)):
        sequence, timestamp = (sequence + 1) & 0xFFFF, (timestamp + FRAME_BYTES) & 0xFFFFFFFF
        match chance.randrange(12):
            case 0:
                datagram = _datagram(chance)
            case 1:
                sequence = (sequence + chance.choice((2, 5, 100, 0x7FFF, 0x8000, 0xFFFE))) & 0xFFFF
                datagram = build(0, sequence, timestamp, ssrc, bytes(FRAME_BYTES), marker=False)
            case 2:
                timestamp = (timestamp + chance.choice((1, 8000, 1 << 31, (1 << 32) - 160))) & 0xFFFFFFFF
                datagram = build(0, sequence, timestamp, ssrc, bytes(FRAME_BYTES), marker=True)
            case 3:
                ssrc = chance.getrandbits(32)
                datagram = build(0, sequence, timestamp, ssrc, bytes(FRAME_BYTES), marker=True)
            case 4:
                datagram = spoil_bytes(build(0, sequence, timestamp, ssrc, bytes(FRAME_BYTES), marker=False), chance)
            case _:
                datagram = bytes(RtpPacket(0, sequence, timestamp, ssrc, bytes(FRAME_BYTES)))
        stream.append((chance.choice((0.0, 0.001, 0.02, 0.02, 0.02, 0.2, 5.0)), datagram))
    return stream


def _hold_stream(stream: list[tuple[float, bytes]]) -> None:
    session, now, began = RtpSession(0), 100.0, 100.0
    told = 0
    for wait_s, datagram in stream:
        now += wait_s
        out = [*session.timeline.take(datagram, now), *session.timeline.tick(now)]
        if not all(isinstance(payload, bytes) and payload for payload in out):
            raise AssertionError("something is told to the model that is no audio")
        told += sum(map(len, out))
    # What the model hears of the caller is as long as it took, but for what one packet may hold beyond its time.
    if told > 8000 * (now - began + 10.0) + 4096 * len(stream):
        raise AssertionError(f"{told} bytes of audio in {now - began:.1f} s")


# --- Asterisk


def _channel(number: int) -> dict[str, Any]:
    return {
        "id": f"178.{number}", "name": f"PJSIP/phone-{number:08x}", "state": "Up",
        "caller": {"name": "Anna", "number": "+442079460123"}, "connected": {"name": "", "number": ""},
        "dialplan": {"context": "sipagent", "exten": "100", "app_name": "Stasis", "app_data": "sipagent-1"},
        "creationtime": "2026-01-01T00:00:00.000+0000", "language": "en", "channelvars": {"X": "1"},
    }  # fmt: skip


def _ari_corpus() -> list[dict[str, Any]]:
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("StasisStart", {"args": ["in", "100", "phone", "ulaw", "1@x", "100"]}),
        ("StasisEnd", {}),
        ("ChannelHangupRequest", {"cause": 16}),
        ("ChannelDestroyed", {"cause": 16, "cause_txt": "Normal Clearing"}),
        ("ChannelStateChange", {}),
        ("ChannelDtmfReceived", {"digit": "5", "duration_ms": 100, "timestamp": "2026-11-27T13:57:52.123+0000"}),
        ("ChannelHold", {"musicclass": "default"}),
        ("ChannelUnhold", {}),
        ("ChannelVarset", {"variable": "X", "value": "1"}),
        ("ApplicationReplaced", {}),
        ("RESTResponse", {"request_id": "1", "status_code": 200, "reason_phrase": "OK", "message_body": "{}"}),
    ]
    transfer = {
        "refer_to": {"requested_destination": {"destination": "200", "protocol_id": ""}},
        "referred_by": {"source_channel": _channel(1)},
    }
    head = {"timestamp": "2026-01-01T00:00:00.000+0000", "application": "sipagent-1", "asterisk_id": "b"}
    return [{"type": kind, "channel": _channel(1), **head, **facts} for kind, facts in kinds] + [
        {"type": "ChannelTransfer", **head, **transfer}
    ]


_ARI = _ari_corpus()


def _ari_texts(chance: random.Random) -> list[str | bytes]:
    return [as_text(spoil_json(chance.choice(_ARI), chance), chance) for _ in range(chance.randint(1, 8))]


def _hold_ari(texts: list[str | bytes]) -> None:
    client = AriClient(
        url="http://127.0.0.1:1", app="sipagent-1", username="u", password="",
        on_call=lambda _: None, on_orphan=lambda *_: None,
    )  # fmt: skip
    with client.listen("178.1"):
        for text in texts:
            client._dispatch(ari.parse(text))  # noqa: SLF001 - the seam between the socket and its listeners


# --- the voice model


def _conversation() -> list[Any]:
    """What the stand-in says in a call, as it goes over the wire."""
    now = 100.0
    session = Session(StandinConfig(mode=Mode.DETERMINISTIC, answer_ms=200), script=None, now=now)
    session.open(now)
    session.receive_text(json.dumps({"type": "session.update", "session": {
        "turn_detection": {"type": "server_vad"},
        "audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcmu"}}},
    }}), now)  # fmt: skip
    sound = pattern(Law.ULAW, 9, 0, 4000) + b"\xff" * 8000
    for at in range(0, len(sound), FRAME_BYTES):
        now += 0.02
        session.receive_text(xai.append(sound[at : at + FRAME_BYTES]).decode(), now)
        session.handle_timer(now)
    for _ in range(100):
        now += 0.02
        session.handle_timer(now)
    sent = [out.event for out in session.take() if isinstance(out, Send)]
    return [json.loads(encode(event)) for event in sent if isinstance(event, dict)]


_MODEL = _conversation()
_CONFIG = SessionConfig(law=Law.ULAW, model="m", voice="v", instructions="Be brief.")


def _model_texts(chance: random.Random) -> list[str | bytes]:
    events = _MODEL if chance.random() < 0.3 else chance.choices(_MODEL, k=chance.randint(1, 20))
    return [
        as_text(spoil_json(event, chance), chance) if chance.random() < 0.5 else json.dumps(event) for event in events
    ]


def _hold_model(texts: list[str | bytes]) -> None:
    """In either dialect, and one that stood by."""
    for session in (
        RealtimeSession(_CONFIG),
        RealtimeSession(replace(_CONFIG, dialect=OPENAI)),
        RealtimeSession(_CONFIG, standby=True),
    ):
        _hold_session(session, texts)


def _hold_session(session: RealtimeSession, texts: list[str | bytes]) -> None:
    now = 100.0
    session.say("Hello.")
    for text in texts:
        now += 0.1
        session.receive(text, now)
        if session.stands_by:
            session.configure(_CONFIG, now)
        if (due := session.next_timer()) is not None and due <= now:
            session.handle_timer(now)
        for message in session.take_outbox():
            json.loads(message)


# --- the stand-in, which whoever is on this machine can reach


def _said_to_the_model(dialect: Dialect) -> list[dict[str, Any]]:
    """One of everything that we send."""
    session = RealtimeSession(replace(
        _CONFIG, dialect=DIALECTS[dialect], language="en",
        tools=({"type": "function", "name": "f", "parameters": {"type": "object"}}, {"type": "web_search"}),
    ))  # fmt: skip
    session.receive('{"type":"session.created","session":{}}', 0.0)
    session.say("Hello.")
    session.whisper("Be quick.")
    session.respond()
    session.interrupt("item", 40)
    session.silence()
    session.answer_function_calls({"call": "{}"})
    sent = [json.loads(message) for message in session.take_outbox()]
    call = {"type": "function_call", "name": "f", "call_id": "call", "arguments": "{}"}
    return [*sent, {"type": "conversation.item.create", "item": call}, json.loads(xai.append(bytes(FRAME_BYTES)))]


_SAID = {dialect: _said_to_the_model(dialect) for dialect in Dialect}


def _client_texts(chance: random.Random) -> tuple[Dialect, list[str]]:
    dialect = chance.choice(list(Dialect))
    texts = [as_text(spoil_json(chance.choice(_SAID[dialect]), chance), chance) for _ in range(chance.randint(1, 20))]
    return dialect, [text if isinstance(text, str) else text.decode("utf-8", "replace") for text in texts]


def _hold_standin(said: tuple[Dialect, list[str]]) -> None:
    dialect, texts = said
    now = 100.0
    session = Session(StandinConfig(mode=Mode.DETERMINISTIC, answer_ms=200, dialect=dialect), script=None, now=now)
    session.open(now)
    for text in texts:
        now += 0.1
        session.receive_text(text, now)
        session.handle_timer(now)
    for out in session.take():
        if isinstance(out, Send) and isinstance(out.event, dict):
            json.loads(encode(out.event))


# --- what is on a channel, and the configuration

_STATE = carried.read  # what a worker that died has left on its caller's channel


def _state_text(chance: random.Random) -> str:
    sound = {"v": 1, "app": "sipagent-1", "called": "100", "caller": "+44", "step": "agent:reception", "worker": 1}
    text = as_text(spoil_json(sound, chance), chance)
    return text if isinstance(text, str) else text.decode("utf-8", "replace")


def _toml(chance: random.Random) -> str:
    return spoil_toml(EXAMPLE.read_text(), chance)


def _hold_toml(text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        file = Path(folder) / "sipagent.toml"
        file.write_text(text, "utf-8", errors="surrogatepass")
        try:
            load(file)
        except ConfigError as error:
            lines = str(error).splitlines()
            if not all(line.startswith(str(file)) for line in lines[:1]):
                raise AssertionError(f"whose fault is this? {error}") from None
            if any(len(line) > LONGEST_LINE for line in lines):
                raise AssertionError(f"a line of {max(map(len, lines))} characters") from None


TARGETS: Sequence[Target] = (
    Target("rtp-packet", _datagram, _hold_packet),
    Target("rtp-session", _stream, _hold_stream),
    Target("ari-events", _ari_texts, _hold_ari),
    Target("realtime", _model_texts, _hold_model),
    Target("stand-in", _client_texts, _hold_standin),
    Target("carried", _state_text, lambda text: _STATE(text) and None),
    Target("configuration", _toml, _hold_toml),
)

"""faults.parse_faults and config: texts from a command line."""

from __future__ import annotations

import pytest

from sipagent.errors import ConfigError
from sipagent.standin import Burst, Faults, StandinConfig, parse_faults
from sipagent.standin.faults import KNOWN


@pytest.mark.parametrize(
    ("texts", "faults"),
    [
        ([], Faults()),
        (["no-ack"], Faults(no_ack=True)),
        (["drop@3.5"], Faults(drop_at_s=3.5)),
        (["drop@answer"], Faults(drop_in_answer=True)),
        (["refuse=429", "garbage"], Faults(refuse=429, garbage=True)),
        (["close=1011@3"], Faults(close_code=1011, close_at_s=3)),
        (["close=4000"], Faults(close_code=4000)),
        (["abandon", "stuck=2"], Faults(abandon=0, stuck=2)),
        (["slow-ack=2", "slow-handshake=0.5", "freeze@1", "expire@9"],
         Faults(slow_ack_s=2, slow_handshake_s=0.5, freeze_at_s=1, expire_at_s=9)),
        (["model=other-1"], Faults(model="other-1")),
    ],
)  # fmt: skip
def test_known_texts(texts: list[str], faults: Faults) -> None:
    assert parse_faults(texts) == faults


@pytest.mark.parametrize(
    "text",
    ["nonsense", "drop", "drop@", "drop@soon", "drop@-1", "drop@nan", "refuse=200", "refuse=x", "no-ack=1", "close=99",
     "close=1000@x", "stuck=two", "model=", "early-calls", "slow-ack=inf", ""],
)  # fmt: skip
def test_bad_texts_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f"fault {text!r}"):
        parse_faults([text])


def test_every_field_has_a_text() -> None:
    samples = {"slow-ack": "=1", "drop": "@1", "close": "=1011@1", "expire": "@1", "refuse": "=400",
               "slow-handshake": "=1", "freeze": "@1", "abandon": "", "stuck": "", "model": "=m",
               "early-calls": "=0.5"}  # fmt: skip
    everything = parse_faults([name + samples.get(name, "") for name in KNOWN] + ["drop@answer"])
    assert all(getattr(everything, name) != getattr(Faults(), name) for name in Faults.__slots__)
    assert parse_faults(everything.texts()) == everything


@pytest.mark.parametrize(
    "bad", [{"port": 70000}, {"mode": "dream"}, {"answer_ms": 0}, {"ears": 0}, {"ping_s": 0}, {"max_sessions": -1}]
)
def test_config_names_the_bad_key(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        StandinConfig(**bad)  # type: ignore[arg-type]


def test_burst_is_checked() -> None:
    assert Burst.even(20).chunks == (160,)
    for bad in ({"chunks": ()}, {"chunks": (0,)}, {"speed": 0}, {"speed": float("nan")}):
        with pytest.raises(ConfigError, match="burst"):
            Burst(**bad)  # type: ignore[arg-type]

"""How a sound input is spoiled: bytes, JSON and TOML. All chance comes from the `Random` that is handed in (core)."""

from __future__ import annotations

import json
import random
from typing import Any

MOST_BYTES = 4096
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 1e308, -0.0, 0.5, "", " ", "0", "-1", "\0", "é",
    "\ud800", "x" * 5000, "../..", "a" * 65, "+1" * 40, "=", "%s", [], {}, [[]], [None], {"": None}, {"type": {}},
    [{}] * 50,
)  # fmt: skip
"""What a field may hold instead of what it should."""
ODD_TOML = (
    '""', "0", "-1", "1e400", "nan", "true", "[]", "{}", "[[]]", "''", '"\\u0000"', "1979-05-27", "07:32:00", '"+"',
    '"*"', '["", ""]', "{ a = 1 }", "[1, 2, 3]", "99999999999999999999", '"agent:nobody"', '"dial:"', '"{x}"',
    '"file:/etc/passwd"', '"_X."', '"http://"', '"' + "x" * 3000 + '"', "0x", "\'\'\'", '"', "[",
)  # fmt: skip
ODD_LINES = ("[", "[[routes]]", "[agents.x]", "x = 1", "= 1", "[numbers]", "\0", "[[")


def spoil_bytes(data: bytes, chance: random.Random, other: bytes = b"") -> bytes:
    """One to four small wounds."""
    spoiled = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(spoiled) + 1)
        match chance.randrange(7):
            case 0 if spoiled:
                spoiled[at % len(spoiled)] ^= 1 << chance.randrange(8)
            case 1:
                del spoiled[at:]
            case 2:
                del spoiled[at : at + chance.randint(1, 8)]
            case 3:
                spoiled[at:at] = chance.randbytes(chance.randint(1, 8))
            case 4:
                spoiled[at:at] = spoiled[: chance.randint(0, 64)]
            case 5 if spoiled:
                spoiled[at % len(spoiled)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case _:
                spoiled[at:] = other[chance.randrange(len(other) + 1) :]
    return bytes(spoiled[:MOST_BYTES])


def spoil_json(value: Any, chance: random.Random) -> Any:
    """The same with one place in it changed, gone, or come."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(ODD)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [*value[:at], spoil_json(value[at], chance), *value[at + 1 :]]
    key = chance.choice(list(value))
    if chance.random() < 0.15:
        return {name: item for name, item in value.items() if name != key}
    if chance.random() < 0.05:
        return value | {chance.choice(("type", "id", "", "channel")): chance.choice(ODD)}
    return value | {key: spoil_json(value[key], chance)}


def as_text(value: Any, chance: random.Random) -> str | bytes:
    """As it would come over the wire, sometimes not quite."""
    text = json.dumps(value)
    if chance.random() < 0.05:
        text = "[" * chance.randint(1, 3000) + text
    raw = text.encode()
    return spoil_bytes(raw, chance) if chance.random() < 0.3 else text


def spoil_toml(text: str, chance: random.Random) -> str:
    """A few lines gone, doubled, elsewhere, or, most often, with another value."""
    lines = text.splitlines()
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        match chance.choice((0, 1, 2, 3, 3, 3, 3, 4, 5, 6)):
            case 0:
                del lines[at : at + chance.randint(1, 3)]
            case 1:
                lines.insert(chance.randrange(len(lines) + 1), lines[at])
            case 2:
                lines[at] = lines[at].lstrip("# ")
            case 3 if "=" in lines[at]:
                lines[at] = lines[at].partition("=")[0] + "= " + chance.choice(ODD_TOML)
            case 4 if "=" in lines[at]:
                key, _, rest = lines[at].partition("=")
                lines[at] = f"{key[:-2]}{chance.choice('abz_-.')} ={rest}"
            case 5:
                lines.insert(
                    at, chance.choice(("[", "[[routes]]", "[agents.x]", "x = 1", "= 1", "[numbers]", "\x00", "[["))
                )
            case _:
                spoiled = spoil_bytes(lines[at].encode(), chance)
                lines[at] = spoiled.decode("utf-8", "replace").replace("\n", " ")
        lines = lines or [""]
    return "\n".join(lines)

"""docs/threat-model.md does not rot: what it names is there."""

from __future__ import annotations

import re

from tools.generate import ROOT

TEXT = (ROOT / "docs/threat-model.md").read_text()
ROWS = [
    line.split(" | ")
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| threat", "| ---"))
]


def test_every_threat_has_its_control_its_file_and_its_test() -> None:
    assert len(ROWS) > 30
    for row in ROWS:
        assert len(row) == 4, row
        assert re.search(r"`[^`]+`", row[2]), row
        assert "::test_" in row[3], row


def test_every_file_is_there() -> None:
    files = {name for row in ROWS for name in re.findall(r"`([^`]+)`", row[2])}
    assert [name for name in sorted(files) if not (ROOT / name).is_file()] == []


def test_every_test_is_there() -> None:
    named = set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", TEXT))
    assert len(named) == len(set(re.findall(r"\S+::test_\w+", TEXT)))
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if not re.search(rf"\bdef {name}\(", (ROOT / "tests" / file).read_text())
    ]
    assert missing == []

"""The bill of materials: every package that is installed, by version and hash, nothing of the machine that made it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tools.generate import ROOT


def test_it_has_what_the_lock_has(tmp_path: Path) -> None:
    target = tmp_path / "sbom.json"
    subprocess.run(["make", "-s", "sbom", f"SBOM={target}"], cwd=ROOT, check=True, capture_output=True, timeout=100)
    bill = json.loads(target.read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "sipagent")
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", lock, re.MULTILINE))
    assert len(locked) > 90
    assert {(one["name"], one["version"]) for one in bill["components"]} == locked
    for one in bill["components"]:
        assert one["externalReferences"][0]["hashes"], one["name"]
    assert str(ROOT) not in target.read_text()


def test_ci_makes_one() -> None:
    assert "make sbom" in (ROOT / ".ci/run").read_text()

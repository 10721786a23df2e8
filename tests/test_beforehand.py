"""What a worker has ready before the first call needs it."""

from __future__ import annotations

import json
import subprocess
import sys

FRESH = """
import json, threading
from structlog.testing import capture_logs
from sipagent import beforehand, numbers, tuning, worker
from sipagent.audio import Law
from sipagent.tones import looped
from sipagent.tools import arguments
{prepare}
tuning.spare_the_disk()
SCHEMA = {{"type": "object", "properties": {{"reason": {{"type": "string"}}}}, "required": ["reason"]}}
with capture_logs() as logs:
    given, wrong = arguments.read('{{"reason": 5}}', SCHEMA)
    assert "not of type 'string'" in wrong, wrong
    for text in ("+33142685300", "+16135550123", "0033142685300", "112"):
        numbers.to_e164(text, "FR")
    looped("hold", Law.ULAW)
print(json.dumps([entry["module"] for entry in logs]))
"""


def imported_late(prepare: str) -> list[str]:
    """In a process of its own, since this one has imported everything by now."""
    told = subprocess.run(
        [sys.executable, "-c", FRESH.format(prepare=prepare)], capture_output=True, text=True, check=True
    )
    found: list[str] = json.loads(told.stdout.splitlines()[-1])
    return found


def test_neither_a_function_nor_a_country_is_met_unprepared() -> None:
    assert {"jsonschema", "phonenumbers.data.region_FR"} <= set(imported_late(""))
    prepared = "one = threading.Thread(target=beforehand.prepare); one.start(); one.join()"
    assert imported_late(prepared) == []

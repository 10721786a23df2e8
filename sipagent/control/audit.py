"""The audit log: who did what through the API, a line of JSON each, in a file a day that nobody but the user reads.

Not a table of the records: those may be off, away or behind, and a line must stand before the caller has the answer.
The same goes to the log as `api_audit`, so that a journal elsewhere has it too.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from pathlib import Path

import msgspec
import structlog

log = structlog.get_logger()

LONGEST_PATH = 200
"""Of what somebody asked for; a path may be anything."""


class Deed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request and what came of it. Never the token, never the query, never a body."""

    at: str
    who: str
    """The token's name, `unix socket`, `no login`; empty: whoever came had none that counts."""
    address: str
    method: str
    path: str
    status: int
    """As answered; 0: they left before there was an answer."""
    call_id: str = ""
    why: str = ""
    """Why it was refused."""


class Audit:
    """The files of one node in `folder`; those older than `keep_days` go."""

    def __init__(self, folder: Path, keep_days: int) -> None:
        self._folder, self._keep_days = folder, keep_days
        self._file = -1
        self._day = ""

    def write(self, deed: Deed) -> None:
        """Append it. A disk that is full stops no operator: the log has the line, too."""
        facts = msgspec.structs.asdict(deed)
        del facts["at"]
        log.info("api_audit", **facts)
        try:
            self._open(deed.at[:10])
            os.write(self._file, msgspec.json.encode(deed) + b"\n")  # one write: whole lines
        except OSError as error:
            log.error("audit_not_written", folder=str(self._folder), error=str(error))

    def close(self) -> None:
        """Again is no error; the next line opens it anew."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._day = -1, ""

    def _open(self, day: str) -> None:
        if day == self._day:
            return
        self.close()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._file = os.open(self._folder / f"{day}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._day = day
        oldest = dt.date.fromisoformat(day) - dt.timedelta(days=self._keep_days)
        for file in self._folder.glob("????-??-??.jsonl"):
            if file.stem < oldest.isoformat():
                with contextlib.suppress(OSError):
                    file.unlink()

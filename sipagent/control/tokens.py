"""API tokens: who may come in, and how far; kept in the run folder as hashes.

`sipagent token` writes the file, the control process looks whether it has changed whenever somebody knocks: what was
made or revoked counts for the next request. The token itself stands nowhere after it has been printed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from sipagent.control.scopes import Scope
from sipagent.errors import ToolError

log = structlog.get_logger()

PREFIX = "sipagent_"
"""By it scanners of repositories and logs know a token that has got out."""
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")


class Token(msgspec.Struct, frozen=True):
    """What is kept of a token."""

    name: str
    scope: str
    sha256: str
    created: dt.datetime
    expires: dt.datetime | None = None

    def expired(self, now: dt.datetime) -> bool:
        """It does not count any more."""
        return self.expires is not None and now >= self.expires


class Tokens:
    """The file of one node; read anew when it has changed."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "tokens.json"
        self._kept: list[Token] = []
        self._seen: tuple[int, int, int] | None = None

    def find(self, secret: str, now: dt.datetime) -> Token | None:
        """Whose token this is; None: nobody's, or expired."""
        digest = _digest(secret)
        found = None
        for token in self.all():  # all of them, so that the time taken does not tell which one is near
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return None if found is None or found.expired(now) else found

    def all(self) -> list[Token]:
        """Every token, in the order in which they were made; none when the file cannot be read."""
        try:
            state = self.path.stat()
            seen = (state.st_ino, state.st_mtime_ns, state.st_size)
            if seen != self._seen:
                self._kept = msgspec.json.decode(self.path.read_bytes(), type=list[Token])
                self._seen = seen
        except FileNotFoundError:
            self._kept, self._seen = [], None
        except (OSError, msgspec.DecodeError) as error:  # then nobody comes in, rather than everybody
            log.error("tokens_unreadable", path=str(self.path), error=str(error))
            self._kept, self._seen = [], None
        return self._kept

    def create(self, name: str, scope: Scope, now: dt.datetime, expires: dt.datetime | None = None) -> str:
        """A new token, told this once."""
        if not NAME.fullmatch(name):
            raise ToolError(f"{name!r} is no name for a token: small letters, digits, '-', '_', '.', 40 at most")
        with self._alone() as kept:
            if any(token.name == name for token in kept):
                raise ToolError(f"there is a token {name!r} already; revoke it first, or choose another name")
            secret = PREFIX + secrets.token_hex(32)
            self._write([*kept, Token(name, scope.name.lower(), _digest(secret), now, expires)])
        return secret

    def revoke(self, name: str) -> None:
        """From the next request on it is worth nothing."""
        with self._alone() as kept:
            left = [token for token in kept if token.name != name]
            if len(left) == len(kept):
                raise ToolError(f"there is no token {name!r}; `sipagent token list` shows them")
            self._write(left)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[list[Token]]:
        """What is kept, while nobody else writes."""
        try:
            lock = self.path.with_suffix(".lock").open("w")
        except OSError as error:
            raise ToolError(f"{self.path.parent}: {error.strerror}; are you the node's user?") from None
        with lock:
            self._ours(lock.fileno())
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._seen = None
            kept = self.all()
            if self._seen is None and self.path.exists():
                raise ToolError(f"{self.path} cannot be read: mend it, or remove it and make all tokens anew")
            yield kept

    def _ours(self, handle: int) -> None:
        """Of the folder's owner: where root makes a token, the node must be able to read it."""
        os.fchmod(handle, 0o600)
        owner = self.path.parent.stat()
        if os.geteuid() == 0:
            os.fchown(handle, owner.st_uid, owner.st_gid)

    def _write(self, tokens: list[Token]) -> None:
        # Whole or not at all; a temporary file of mkstemp has mode 600 from the beginning.
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".tokens-")
        try:
            with os.fdopen(handle, "wb") as file:
                self._ours(file.fileno())
                file.write(msgspec.json.format(msgspec.json.encode(tokens), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)  # noqa: PTH105 - beside mkstemp's text
        except BaseException:  # Ctrl-C too: half a file of tokens must not stay beside the whole one
            os.unlink(temporary)  # noqa: PTH108
            raise


def _digest(secret: str) -> str:
    # Not argon2: a slow hash protects what people choose. 256 random bits cannot be guessed from their hash however
    # quick it is, and every request is to be hashed.
    return hashlib.sha256(secret.encode()).hexdigest()

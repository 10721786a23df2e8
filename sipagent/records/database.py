"""The engine for either database, and its tables brought up to date. Everything that differs between the two is here.

SQLite: write-ahead log, so that readers and the one writer do not wait for each other; a transaction that will write
takes the lock at its beginning, since one that finds out later may only fail. PostgreSQL: psycopg 3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from sipagent.errors import ConfigError

BUSY_TIMEOUT_MS = 5000
"""How long a writer waits for another one: only the command line and retention are others, both quick."""
CONNECT_TIMEOUT_S = 5
MAX_CONNECTIONS = 15
"""Of SQLite's, at once."""
STATEMENT_TIMEOUT_MS = 30_000
"""A database that hangs is one that is away."""
MIGRATION_LOCK = 0x51BA6E47
"""A key of ours for PostgreSQL's advisory locks."""
UNDEFINED_TABLE = "42P01"

AWAY = (OperationalError, InterfaceError, ConnectionError, TimeoutError, OSError)
"""What the database says when it is away, full or locked: worth another try."""


def is_away(error: Exception) -> bool:
    """Whether the database cannot be had now, as against a row that it will not take."""
    if isinstance(error, AWAY) or not isinstance(error, DBAPIError):
        return isinstance(error, AWAY)
    # An empty one that somebody has put there (SQLite calls that operational by itself), or a damaged one.
    missing = getattr(error.orig, "sqlstate", "") == UNDEFINED_TABLE
    return missing or error.connection_invalidated or type(error) in {DatabaseError, InternalError}


def engine_for(url: str, password: str = "", *, pooled: bool = True) -> AsyncEngine:
    """An engine; nothing is connected yet.

    Raises:
        ConfigError: the URL is none of the two databases'.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        raise ConfigError("records.url: not a database URL; see sipagent.example.toml") from None
    if password:
        address = address.set(password=password)
    pool: dict[str, Any] = {} if pooled else {"poolclass": NullPool}
    match address.drivername:
        case "sqlite+aiosqlite":
            if address.database and address.database != ":memory:":
                Path(address.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if pooled:  # one is always there; another is a thread and two files, opened in a millisecond
                    pool = {"pool_size": 1, "max_overflow": MAX_CONNECTIONS - 1}
            engine = create_async_engine(address, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000}, **pool)
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(engine.sync_engine, "begin", _begin_sqlite)
        case "postgresql+psycopg":
            options = {
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
            }
            engine = create_async_engine(address, connect_args=options, pool_pre_ping=pooled, **pool)
        case other:
            raise ConfigError(f"records.url: {other} is not known; sqlite+aiosqlite:///... or postgresql+psycopg://...")
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: we do, below
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


async def migrate(engine: AsyncEngine, revision: str = "head") -> None:
    """Bring the tables to a revision; whoever comes second waits and finds it done.

    Raises:
        ConfigError: a later sipagent has been here, or somebody else's tables are.
    """
    async with engine.execution_options(writes=True).begin() as connection:
        await connection.run_sync(_migrate, revision)


def _migrate(connection: Connection, revision: str) -> None:
    # SQLite's lock is the transaction's own (BEGIN IMMEDIATE).
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    # 0.2 s and 11 MB, which a worker, who has no database, need not spend; a recorder has it imported in a thread.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()  # no alembic.ini: the migrations ship with the package
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    there = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if there and there not in known:
        raise ConfigError(f"records.url: the tables are of a later sipagent (revision {there}): update this one")
    if revision == "base":
        command.downgrade(config, "base")
    else:
        command.upgrade(config, revision)

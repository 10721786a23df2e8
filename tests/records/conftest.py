"""Both databases, for real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from sipagent.records import database
from sipagent.records.store import Store
from sipagent.records.tables import Base
from tests.records.postgres import Postgres, server


async def tables_in(made: Store) -> None:
    """Quicker than the migrations, and the same: a test compares them."""
    async with made.engine.execution_options(writes=True).begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/records.db"
    running: Postgres = request.getfixturevalue("postgres")
    return running.new_url()


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    made = Store(database.engine_for(url))
    await tables_in(made)
    yield made
    await made.aclose()

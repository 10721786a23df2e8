"""Both databases, for real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from sipagent.records import database
from sipagent.records.store import Store
from tests.records.postgres import Postgres, server


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
    await database.migrate(made.engine)
    yield made
    await made.aclose()

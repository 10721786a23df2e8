"""The records by HTTP, and by the command line."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import pytest_asyncio
from click.testing import Result
from sqlalchemy import insert
from typer.testing import CliRunner

from sipagent.cli import app
from sipagent.config import Agent, RecordsSettings, Settings
from sipagent.control import api, api_records
from sipagent.control.live import Live
from sipagent.records import database, store
from sipagent.records.service import Records
from sipagent.records.store import Filter, Store
from sipagent.records.tables import Call
from tests.records.conftest import tables_in
from tests.records.talk import call, kept


@asynccontextmanager
async def client(records: Records | None) -> AsyncIterator[httpx.AsyncClient]:
    async def nothing(*_: object) -> Any:
        return False

    transport = httpx.ASGITransport(api.build(Live(1), nothing, api_records.router(records)))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as made:
        yield made


def settings_in(folder: Path, url: str = "") -> Settings:
    return Settings(run_dir=folder, records=RecordsSettings(url=url), agents={"a": Agent(instructions="Be brief.")})


@pytest_asyncio.fixture
async def records(tmp_path: Path, url: str) -> AsyncIterator[Records]:
    made = Records(settings_in(tmp_path, url))
    await tables_in(made.store)
    yield made
    await made.store.aclose()


@pytest_asyncio.fixture
async def http(records: Records) -> AsyncIterator[httpx.AsyncClient]:
    async with client(records) as made:
        yield made


async def test_calls_page_by_page_and_one_by_one(records: Records, http: httpx.AsyncClient) -> None:
    for number in range(5):
        await records.store.apply(kept(call(f"c{number}", 1e9 + number), f"r{number}"), 0)
    seen, cursor = [], ""
    while True:
        page = (await http.get("/v1/calls", params={"limit": 2, "cursor": cursor})).json()
        seen += [entry["id"] for entry in page["calls"]]
        if not (cursor := page["next"]):
            break
    assert seen == ["c4", "c3", "c2", "c1", "c0"]
    whole = (await http.get("/v1/calls/c3")).json()
    [summary] = [entry for entry in (await http.get("/v1/calls")).json()["calls"] if entry["id"] == "c3"]
    history = whole.pop("history")
    assert whole == summary | {name: whole[name] for name in ("start", "answer", "end")}
    assert len(history["events"]) == len(call())
    assert "events" not in (await http.get("/v1/calls/c3", params={"events": "false"})).json()["history"]


async def test_filters_and_what_is_wrong_with_them(records: Records, http: httpx.AsyncClient) -> None:
    await records.store.apply(kept(call("c", 1_790_000_000.0)), 0)

    async def ids(**params: str) -> list[str]:
        answer = await http.get("/v1/calls", params=params)
        assert answer.status_code == 200, answer.text
        return [entry["id"] for entry in answer.json()["calls"]]

    assert await ids(**{"from": "2026-09-21T14:13:20Z"}) == ["c"]
    assert await ids(**{"from": "2026-09-21T14:13:21Z"}) == []
    assert await ids(to="2026-09-21T16:13:21+02:00") == ["c"]
    assert await ids(to="2026-09-21T14:13:20") == []
    assert await ids(number="+442079460123", agent="reception", trunk="vonage", reason="caller_hangup") == ["c"]
    assert await ids(number="'; DROP TABLE calls; --") == []
    for path, status in {
        "/v1/calls?from=yesterday": 422, "/v1/calls?state=odd": 422, "/v1/calls?limit=0": 422,
        "/v1/calls?limit=100000": 422, "/v1/calls?cursor=nonsense": 400, "/v1/calls/nobody": 404,
        "/v1/calls/nobody/report.svg": 404, "/v1/calls/export?format=xml": 422, "/v1/calls/%00": 404,
    }.items():  # fmt: skip
        assert (await http.get(path)).status_code == status, path


async def test_a_report_as_picture_and_as_text(records: Records, http: httpx.AsyncClient) -> None:
    await records.store.apply(kept(call("c")), 0)
    picture = await http.get("/v1/calls/c/report.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert picture.text.startswith("<svg")
    text = await http.get("/v1/calls/c/report.txt")
    assert "Where is my order 4711?" in text.text


async def test_export_as_csv_and_json(records: Records, http: httpx.AsyncClient) -> None:
    odd = '=HYPERLINK("http://evil.example","click"), "x"'
    await records.store.apply(kept(call("a", 1e9, caller=odd)), 0)
    await records.store.apply(kept(call("b", 1.1e9), "other"), 0)
    answer = await http.get("/v1/calls/export", headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["id"], row["src"]) for row in rows] == [("b", "+442079460123"), ("a", f"'{odd}")]
    as_json = (await http.get("/v1/calls/export", params={"format": "json", "to": "2002-01-01T00:00:00Z"})).json()
    assert [(entry["id"], entry["src"]) for entry in as_json] == [("a", odd)]
    assert (await http.get("/v1/calls/export", params={"agent": "nobody"})).json() == []
    empty = await http.get("/v1/calls/export", params={"agent": "nobody", "format": "csv"})
    assert empty.text.count("\r\n") == 1


async def test_without_records_and_without_a_database_it_says_so(tmp_path: Path) -> None:
    paths = ("/v1/calls", "/v1/calls/x", "/v1/calls/export", "/v1/calls/x/report.svg")
    async with client(None) as http:
        for path in paths:
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert "enabled = false" in answer.json()["detail"]
        assert (await http.get("/v1/calls/live")).json() == {"calls": []}
    away = Records(settings_in(tmp_path, f"postgresql+psycopg://nobody@/none?host={tmp_path}"))
    async with client(away) as http:
        for path in paths:
            assert (await http.get(path)).status_code == 503, path
    await away.store.aclose()


async def fill(made: Store, calls: int) -> None:
    """Rows without their history, quickly."""
    empty = {column.key: "" for column in Call.__table__.columns if column.type.python_type is str}
    counts = {column.key: 0 for column in Call.__table__.columns if column.type.python_type is int}
    base = empty | counts | {"cause": None, "recorded": False, "counters": {}, "quality": {}, "state": "ended"}
    async with made.writing() as session:
        rows = [base | {"id": f"c{number}", "start": 1e9 + number, "src": "x" * 1000} for number in range(calls)]
        await session.execute(insert(Call), rows)


@pytest.mark.parametrize("form", [api_records._csv, api_records._json])
async def test_a_long_export_is_never_whole_in_memory(tmp_path: Path, form: Callable[..., Any]) -> None:
    made = Store(database.engine_for(f"sqlite+aiosqlite:///{tmp_path}/r.db"))
    await tables_in(made)
    await fill(made, 5_000)
    chunks = api_records._in_chunks(form(made.export(Filter())))
    await anext(chunks)  # caches are filled
    tracemalloc.start()
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        assert len(chunk) < 2 * api_records.CHUNK_BYTES
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 5_000_000
    assert peak < 3_000_000
    await made.aclose()


async def test_an_export_that_nobody_reads_on_asks_for_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "EXPORT_PAGE", 10)
    made = Store(database.engine_for(f"sqlite+aiosqlite:///{tmp_path}/r.db"))
    await tables_in(made)
    await fill(made, 100)
    asked = 0
    page = made.page

    async def counted(*arguments: Any) -> store.Page:
        nonlocal asked
        asked += 1
        return await page(*arguments)

    monkeypatch.setattr(made, "page", counted)
    found = made.export(Filter())
    for _ in range(11):
        await anext(found)
    assert asked == 2
    await found.aclose()  # type: ignore[attr-defined]
    await made.aclose()


CONFIG = '[agents.a]\ninstructions = "Be brief."\n[numbers]\n"100" = "a"\n'


@pytest_asyncio.fixture
async def folder(tmp_path: Path) -> Path:
    (tmp_path / "sipagent.toml").write_text(f'run_dir = "{tmp_path}"\n{CONFIG}')
    made = Store(database.engine_for(f"sqlite+aiosqlite:///{tmp_path}/records.db"))
    await tables_in(made)
    await made.apply(kept(call("c1")), 0)
    await made.apply(kept(call("old", 1e9), "other"), 0)
    await made.aclose()
    return tmp_path


class TestCommands:
    def run(self, folder: Path, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(folder / "sipagent.toml")])

    def test_calls(self, folder: Path) -> None:
        done = self.run(folder, "calls")
        assert done.exit_code == 0
        first, second = done.stdout.splitlines()
        assert ":20  c1" in first
        assert "+442079460123 -> 100" in first
        assert "2 turns  answers in 1.10 s  MOS 4.2" in first
        assert "  old  " in second
        done = self.run(folder, "calls", "--json", "--until", "2010-01-01", "--limit", "1")
        assert [entry["id"] for entry in json.loads(done.stdout)] == ["old"]
        assert self.run(folder, "calls", "--since", "yesterday").exit_code == 2
        assert self.run(folder, "calls", "--since", "2h", "--until", "1h").stdout == ""

    def test_call_report(self, folder: Path) -> None:
        done = self.run(folder, "call-report", "c1")
        assert (done.exit_code, "Where is my order 4711?" in done.stdout) == (0, True)
        done = self.run(folder, "call-report", "c1", "--svg", str(folder / "c1.svg"))
        assert (done.exit_code, done.stdout) == (0, "")
        assert (folder / "c1.svg").read_text().startswith("<svg")
        assert "no call 'nobody'" in str(self.run(folder, "call-report", "nobody").exception)

    def test_without_records_it_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "sipagent.toml").write_text(f'run_dir = "{tmp_path}"\n{CONFIG}')
        assert "there are no records yet" in str(self.run(tmp_path, "calls").exception)
        broken = tmp_path / "records.db"
        broken.write_bytes(b"no database" * 1000)
        assert "cannot be read: " in str(self.run(tmp_path, "calls").exception)

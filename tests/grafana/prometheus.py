"""A real Prometheus with our rules, which asks a node and its Asterisk every half second."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from sipagent.asterisk.root import Root
from tests.asterisk.fixtures import free_port
from tests.waiting import until
from tools.generate import ROOT

FILES = ROOT / "grafana/prometheus"
EVERY = "500ms"


@dataclass
class Prometheus:
    """Its HTTP API."""

    url: str
    http: aiohttp.ClientSession

    async def get(self, path: str, **query: str) -> Any:
        async with self.http.get(f"{self.url}/api/v1/{path}", params=query) as response:
            body = await response.json()
            assert body["status"] == "success", f"{query}: {body.get('error')}"
            return body["data"]

    async def values(self, query: str) -> list[float]:
        """What an instant query gives; NaN, which Grafana shows as nothing, left out."""
        result = (await self.get("query", query=query))["result"]
        found = [float(series["value"][1]) for series in result]
        return [value for value in found if not math.isnan(value)]

    async def shows(self, query: str) -> bool:
        """Whether there is anything."""
        return bool(await self.values(query))

    async def scraped(self) -> None:
        """Both targets have been asked after this was called, and rules made of it."""
        now, seen = time.time(), 0.0

        async def asked() -> bool:
            nonlocal seen
            if not seen:
                if await self.values("up") == [1, 1] and min(stamps := await self.values("timestamp(up)")) > now:
                    seen = max(stamps)
                return False
            # Each group of rules has its own time within the interval.
            groups = (await self.get("rules"))["groups"]
            return all(dt.datetime.fromisoformat(group["lastEvaluation"]).timestamp() > seen for group in groups)

        await until(asked, "Prometheus to ask both targets")


@asynccontextmanager
async def prometheus(root: Root, folder: Path, node: int, asterisk: int) -> AsyncIterator[Prometheus]:
    """For the length of the block; the ports are those to be asked."""
    config = yaml.safe_load((FILES / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
    config["global"]["external_labels"]["runbooks"] = "https://runbooks.test"
    config["rule_files"] = [str(FILES / "rules/*.yml")]
    del config["alerting"]
    for job, port in zip(config["scrape_configs"], (node, asterisk), strict=True):
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(yaml.safe_dump(config))
    log = (folder / "prometheus.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *root.command("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage", stdout=log, stderr=log,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as http:
            server = Prometheus(f"http://127.0.0.1:{port}", http)

            async def is_ready() -> bool:
                assert process.returncode is None, (folder / "prometheus.log").read_text()
                try:
                    async with http.get(f"{server.url}/-/ready") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await until(is_ready, "Prometheus to be ready")
            yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        log.close()

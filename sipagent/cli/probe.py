"""`sipagent probe`: a call through a trunk and back, now, by the node that runs."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from sipagent import config
from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, group, node_api, run_async
from sipagent.config import Settings
from sipagent.errors import ToolError

app = group()


@app.command(epilog="Example: sipagent probe uk")
def probe(
    name: Annotated[str, typer.Argument(help="Of [probes.NAME]; without one, all of them.")] = "",
    config_file: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Call ourselves through each trunk of a probe and listen; exit code 1 if one fails. Needs `sipagent run`."""
    settings = config.load(config_file)
    if name and name not in settings.probes:
        raise ToolError(f"there is no [probes.{name}]; there is {', '.join(settings.probes) or 'none'}")
    if not settings.probes:
        raise ToolError("there is no [probes.NAME] in the configuration")
    results = run_async(_probe(settings, [name] if name else list(settings.probes)))
    print(json.dumps(results, indent=2) if as_json else "\n".join(map(_line, results)))
    if not all(result["ok"] for result in results):
        raise typer.Exit(1)


async def _probe(settings: Settings, names: list[str]) -> list[dict[str, Any]]:
    async with node_api(settings) as http:

        async def one(name: str) -> list[dict[str, Any]]:
            async with http.post(f"/v1/probes/{quote(name)}") as response:
                answer = await response.json(content_type=None)
                if response.status != 200:
                    raise ToolError(f"{name}: {answer.get('detail', response.status)}; after a change: sipagent reload")
                return list(answer["results"])

        return [result for found in await asyncio.gather(*map(one, names)) for result in found]


def _line(result: dict[str, Any]) -> str:
    figures = [
        text.format(result[key])
        for key, text in (
            ("answer_ms", "answered after {:.0f} ms"),
            ("voice_ms", "first words after {:.0f} ms"),
            ("mos", "MOS {:.2f}"),
            ("loss_percent", "lost {:.1f} %"),
            ("jitter_ms", "jitter {:.1f} ms"),
        )
        if result[key] is not None
    ]
    told = "; ".join(part for part in (result["why"], ", ".join(figures)) if part)
    return f"{'ok  ' if result['ok'] else 'FAIL'}  {result['name']} through {result['trunk']}: {told}"

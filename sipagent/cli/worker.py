"""The command that a worker process is: it imports what a worker needs and no more, for calls may wait for it."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from sipagent import coredumps, worker
from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, StandinOption, group, run_async, settings_of
from sipagent.flow.prompts import Prompts, current_folder
from sipagent.observe import logs

app = group()


@app.command("worker", epilog="Started by `sipagent run`; by hand only to look at one worker alone.")
def run_worker(
    number: Annotated[int, typer.Argument(min=1, help="Which worker, from 1.")],
    config_file: ConfigOption = DEFAULT_CONFIG,
    standin: StandinOption = False,
) -> None:
    """One call worker."""
    settings = settings_of(config_file, standin=standin)
    coredumps.follow(wanted=settings.log.core_dumps)
    logs.configure(settings.log, worker=number)
    prompts = Prompts(current_folder(settings.run_dir / "prompts"), settings.folder)
    run_async(worker.run(settings, number, prompts, functools.partial(settings_of, config_file, standin=standin)))

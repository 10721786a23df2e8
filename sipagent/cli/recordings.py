"""`sipagent recordings`: the files of recorded calls, read where they lie."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, group, settings_of
from sipagent.control.recordings.shelf import Shelf
from sipagent.errors import ToolError

app = group()
recordings_app = group(help="Recorded calls, as they lie on the disk of this machine.")
app.add_typer(recordings_app, name="recordings")


@recordings_app.command("list", epilog="Example: sipagent recordings list --limit 5 --json")
def list_recordings(
    config_file: ConfigOption = DEFAULT_CONFIG,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """What is kept."""
    kept = Shelf(settings_of(config_file)).listed(limit)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(kept)).decode())
    else:
        for one in kept:
            print(f"{one.recording_id}  {one.started:%Y-%m-%d %H:%M:%S}  {one.seconds:7.1f} s  call {one.call_id}")


@recordings_app.command(epilog="Example: sipagent recordings export 20261126T183018-9f2c41d07be3a655 call.wav")
def export(
    recording_id: Annotated[str, typer.Argument(help="As `recordings list` and the API give it.")],
    file: Annotated[Path, typer.Argument(help="Where its audio goes, decrypted.")],
    config_file: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Copy one recording to a file of its own, decrypted with the key of [recording]."""
    shelf = Shelf(settings_of(config_file))
    try:
        kept = shelf.get(recording_id)
    except KeyError:
        raise ToolError(f"there is no recording {recording_id!r} in {shelf.folder}") from None
    pieces = shelf.audio(kept)
    first = next(pieces, b"")  # a wrong key shows before the file is touched
    with file.open("wb") as out:
        for piece in itertools.chain([first], pieces):
            out.write(piece)
    print(f"{file}: {kept.seconds:g} s, {kept.format}")

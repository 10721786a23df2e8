"""Commands to try things: is everything there, does it answer, what does a caller hear."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sipagent import demo, dialogue, doctor
from sipagent.asterisk.root import Root, find_root
from sipagent.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    StandinOption,
    group,
    run_async,
    settings_of,
)
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.speech import Flite

app = group()


@app.command("doctor", epilog="Example: sipagent doctor --json | jq '.[] | select(.ok | not)'")
def run_doctor(
    config_file: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False, standin: StandinOption = False
) -> None:
    """Look at everything a first call needs; each line pass or fail, with the mend."""
    settings = settings_of(config_file, standin=standin)

    async def look() -> list[doctor.Check]:
        checks = []
        async for found in doctor.examine(settings):
            checks.append(found)
            if not as_json:
                mark = "pass" if found.ok else "FAIL"
                print(f"{mark}  {found.name}: {found.detail}" + (f"\n      mend: {found.mend}" if found.mend else ""))
        return checks

    checks = run_async(look())
    if as_json:
        print(json.dumps([asdict(found) for found in checks], indent=2))
    if not all(found.ok for found in checks):
        raise typer.Exit(1)


@app.command(epilog="Examples: sipagent call 100 --say 'When are you open?'   sipagent call sip:100@192.0.2.7:5060")
def call(
    target: Annotated[str, typer.Argument(help="A number at our own Asterisk, or sip:user@host:port.")],
    say: Annotated[list[str] | None, typer.Option("--say", help="What the caller says; may be repeated.")] = None,
    config_file: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    record: Annotated[Path | None, typer.Option(help="Save the call as a stereo WAV file.")] = None,
) -> None:
    """Place a test call with a SIP client of ours and print what its ear got."""
    settings = settings_of(config_file)
    root = find_root(("sipp", "flite")) or Root(None)
    asterisk = settings.asterisk
    phone_config = PhoneConfig(
        server=f"{demo.reachable(asterisk.sip_address)}:{asterisk.sip_port}",
        user=asterisk.phone_user,
        password=asterisk.phone_password.get_secret_value(),
    )
    lines = tuple(dialogue.Line(text) for text in say) if say else dialogue.DEMO
    flite = Flite(root.command("flite"), demo.CALLER_VOICE)

    async def place() -> dialogue.Figures:
        async with Phone(phone_config, root.command("sipp")) as phone:
            summary = await dialogue.converse(phone, target, lines, flite.synthesize)
            if record:
                phone.save_wav(record)
        return dialogue.Figures.of(summary)

    figures = run_async(place())
    if as_json:
        print(json.dumps(asdict(figures), indent=2))
    else:
        demo.print_figures(figures, Console())
    if figures.outcome != "answered":
        raise typer.Exit(1)

"""The command line: thin commands over the composition roots. Exit codes: 0 well, 1 not, 2 wrong usage."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sipagent import __version__

# Each adds its commands; `--help` lists them in this order.
from sipagent.cli import asterisk, node, outbound, policy, probe, recordings, records, service, token  # noqa: F401
from sipagent.cli.common import app
from sipagent.errors import SipAgentError


def main() -> None:
    """Entry point: our own errors become one line on stderr and exit code 1."""
    try:
        app()
    except SipAgentError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _version(value: bool) -> None:
    if value:
        print(f"sipagent {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    del version

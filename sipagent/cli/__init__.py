"""The command line: thin commands over the composition roots. Exit codes: 0 well, 1 not, 2 wrong usage."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sipagent import __version__
from sipagent.cli.common import group
from sipagent.errors import SipAgentError

MODULES = {
    "demo": "demo",
    "doctor": "trial",
    "call": "trial",
    "run": "node",
    "reload": "node",
    "drain": "service",
    "restart": "service",
    "check": "policy",
    "route-test": "policy",
    "flow-graph": "policy",
    "tool": "policy",
    "dial": "outbound",
    "probe": "probe",
    "calls": "records",
    "call-report": "records",
    "recordings": "recordings",
    "token": "token",
    "asterisk": "asterisk",
    "standin": "standin",
    "worker": "worker",
}
"""Command -> module of this package, in the order of `--help`."""


class Commands(Mapping[str, Any]):
    """Each from its module, which is imported when it is asked for: who is called needs no more than it needs.

    A worker that was killed is back in half the time, and `sipagent calls` need not load a web server.
    """

    def __getitem__(self, name: str) -> Any:
        """Of click's kind."""
        module = importlib.import_module(f"{__name__}.{MODULES[name]}")
        return typer.main.get_group(module.app).commands[name]

    def __iter__(self) -> Iterator[str]:
        """Names."""
        return iter(MODULES)

    def __len__(self) -> int:
        """How many there are."""
        return len(MODULES)


class _Group(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": Commands()})


app = group(
    name="sipagent",
    help="A SIP softswitch agent: Asterisk in front, a realtime voice model behind.",
    cls=_Group,
    epilog="First steps: `sipagent demo` brings everything up and calls it; `sipagent doctor` says what is missing.",
    pretty_exceptions_enable=False,
)


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

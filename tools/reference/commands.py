"""`docs/reference/cli.md`, from Typer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from sipagent.cli import app
from tools.reference import MADE
from tools.reference.words import table


def page() -> str:
    """Every command with its arguments and options, in the order of `--help`."""
    head = f"""# Commands

{MADE} Exit codes: 0 well, 1 not, 2 wrong usage. In a checkout the command is `.venv/bin/sipagent`.
"""
    return "\n".join([head, *_group("sipagent", typer.main.get_command(app))])


def _group(path: str, group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _group(f"{path} {name}", command)
        elif not command.hidden:
            yield from _command(f"{path} {name}", command)


def _command(path: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    yield f"## `{path}`\n"
    yield " ".join((command.help or "").split()) + "\n"
    yield "    " + " ".join([path, "[OPTIONS]", *map(_argument, arguments)]) + "\n"
    rows = [(f"`{_argument(one)}`", one.help) for one in arguments if one.help]
    for one in options:
        flags = ", ".join(f"`{flag}`" for flag in (*one.opts, *one.secondary_opts))
        rows.append((flags, (one.help or "") + _default(one)))
    yield table(["", ""], rows)
    if command.epilog:
        yield f"    {' '.join(command.epilog.split())}\n"


def _argument(one: Any) -> str:
    name = (one.metavar or one.name or "").upper()
    return name if one.required else f"[{name}]"


def _default(option: Any) -> str:
    """Where one is worth a word."""
    default = option.default
    if callable(default) or option.is_flag or default in (None, "", ()):
        return ""
    return f" Default: `{getattr(default, 'value', default)}`."

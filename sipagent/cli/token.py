"""`sipagent token`: who may use the API, where `[control] login = "tokens"` asks for it."""

from __future__ import annotations

import datetime as dt
import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, group, settings_of
from sipagent.control.scopes import Scope
from sipagent.control.tokens import Token, Tokens

app = group()
token_app = group(help="Tokens for the API; the node knows of a change at once.")
app.add_typer(token_app, name="token")


class ScopeName(StrEnum):
    """As `--scope` takes it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@token_app.command(epilog="Example: sipagent token create prometheus --scope viewer > /etc/prometheus/sipagent.token")
def create(
    name: Annotated[str, typer.Argument(help="Whose it is: stands in the audit log.")],
    scope: Annotated[
        ScopeName, typer.Option(help="viewer looks, operator acts on calls and hears them, admin changes the node.")
    ],
    expires_days: Annotated[int | None, typer.Option(min=1, max=36500, help="Worth nothing after.")] = None,
    config_file: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make a token and print it, this once: only its hash is kept."""
    settings, now = settings_of(config_file), dt.datetime.now(dt.UTC)
    expires = now + dt.timedelta(days=expires_days) if expires_days else None
    print(Tokens(settings.run_dir).create(name, Scope[scope.name], now, expires))
    if settings.control.login == "off":
        sys.stderr.write('note: nobody is asked for it yet: [control] login = "tokens"\n')


@token_app.command("list")
def list_tokens(config_file: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Names and scopes; the tokens themselves are not kept."""
    kept, now = Tokens(settings_of(config_file).run_dir).all(), dt.datetime.now(dt.UTC)
    if as_json:
        print(json.dumps([_shown(token, now) for token in kept], indent=2))
    for token in kept if not as_json else ():
        until = (
            ""
            if token.expires is None
            else f"  {'EXPIRED' if token.expired(now) else 'until'} {token.expires:%Y-%m-%d}"
        )
        print(f"{token.name:<24} {token.scope:<9} made {token.created:%Y-%m-%d}{until}")


@token_app.command()
def revoke(name: Annotated[str, typer.Argument()], config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """The token of this name is worth nothing from the next request on."""
    Tokens(settings_of(config_file).run_dir).revoke(name)
    print(f"{name} is revoked")


def _shown(token: Token, now: dt.datetime) -> dict[str, object]:
    return {
        "name": token.name,
        "scope": token.scope,
        "created": token.created.isoformat(),
        "expires": token.expires.isoformat() if token.expires else None,
        "expired": token.expired(now),
    }

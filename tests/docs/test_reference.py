"""The reference knows every key, command and path."""

from __future__ import annotations

import re
import tomllib

from sipagent.control import api_service
from tools.generate import ROOT
from tools.reference import api, commands, configuration


def test_every_key_of_the_example_is_in_it() -> None:
    """Those that are commented out, too."""
    text = (ROOT / "sipagent.example.toml").read_text()
    assert tomllib.loads(text)
    page = configuration.page()
    sections = re.findall(r"^(?:# *)?\[\[?([a-z_]+)", text, re.MULTILINE)
    for section in set(sections) - {"numbers", "variables", "steps"}:
        assert re.search(rf"^## `\[\[?{section}[.\]]", page, re.MULTILINE), section


def test_a_key_has_its_type_its_default_and_its_reason() -> None:
    page = configuration.page()
    assert "| `drain_s` | number, 0 to 7200 | `0.0` | SIGTERM: no new calls" in page
    assert "| `from` | list of text | `[]` | The caller's number" in page
    assert '| `api_key` | secret | `""` |' in page
    assert '## `[tools.NAME]` with `kind = "mcp"`' in page
    assert '`folder` | text | `"."`' not in page


def test_commands_have_their_options() -> None:
    page = commands.page()
    assert "## `sipagent asterisk up`" in page
    assert "| `--wait` | Seconds for the calls that are up to end. Default: `0`. |" in page


def test_every_path_of_a_router_is_there() -> None:
    page = api.page()
    assert "| `wait_s` | number, 0 to 7200 | `0.0` |" in page
    for route in api_service.router(None).routes:  # type: ignore[arg-type]
        assert f" {route.path}`" in page

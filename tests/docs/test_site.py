"""docs/ as a site: built strictly, and nothing in it is loaded from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tools.generate import ROOT, generated
from tools.site import plain

LOADED = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "object": "data",
    "use": "href",
}
ELSEWHERE = re.compile(r"^(https?:)?//")


def build(target: Path, config: Path = ROOT / "mkdocs.yml") -> tuple[int, str]:
    """Not quietly: what is not logged is not counted, and then no warning ends a strict build."""
    command = [sys.executable, "-m", "mkdocs", "build", "-f", str(config), "-d", str(target)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    code, told = build(target)
    assert code == 0, told
    return target


class Loads(HTMLParser):
    """What a browser fetches by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and (values.get("rel") or "") in {"canonical", "next", "prev"}:
            return
        if (address := values.get(LOADED.get(tag, ""))) is not None:
            self.found.append(address)


def loads(html: str) -> list[str]:
    parser = Loads()
    parser.feed(html)
    return parser.found


def test_every_page_is_there(site: Path) -> None:
    """Strict: a page that the navigation forgets, a link or an anchor that leads nowhere ends the build."""
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert {Path(str(page).replace("README", "index")) for page in pages} <= built


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    html = {path: loads(path.read_text()) for path in site.rglob("*.html")}
    assert all(html.values())
    assert [(path, one) for path, found in html.items() for one in found if ELSEWHERE.match(one)] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet
    # What the theme's script would fetch for a diagram; we have none.
    assert not [path for path in html if 'class="mermaid"' in path.read_text()]


def test_it_would_be_seen() -> None:
    assert loads('<link rel="stylesheet" href="https://fonts.example/css"><script src="//cdn/x.js"></script>') == [
        "https://fonts.example/css",
        "//cdn/x.js",
    ]


def test_a_link_to_nowhere_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("[gone](gone.md)\n")
    text = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(text.replace("tools/site.py", str(ROOT / "tools/site.py")))
    code, told = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert code != 0
    assert "gone.md" in told


def test_links_out_of_the_docs_become_text() -> None:
    page = ROOT / "docs/start.md"
    assert plain("[sipagent.example.toml](../sipagent.example.toml)", page) == "`sipagent.example.toml`"
    assert plain("see [the format](../sipagent/link.py).", page) == "see the format (`sipagent/link.py`)."
    for stays in ("[gone](../gone.py)", "[trunks](trunks.md)", "[up](../docs/trunks.md)"):
        assert plain(stays, page) == stays


@pytest.mark.parametrize("path", [path for path in generated() if path.suffix == ".md"], ids=str)
def test_what_is_generated_is_current(path: Path) -> None:
    assert (ROOT / path).read_text() == generated()[path], "run `make generate`"

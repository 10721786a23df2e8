"""MkDocs' hook: links of docs/ to files beside it, which a reader of the repository follows and the site has not got.

There such a link becomes its text and the file's name. One that leads to nothing is left alone, so that the strict
build finds it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)\)")


def plain(markdown: str, page: Path) -> str:
    """The page's text without links to files outside of docs/; `page` is its path."""

    def named(link: re.Match[str]) -> str:
        text, target = link.groups()
        file = (page.parent / target).resolve()
        if file.is_relative_to(DOCS) or not file.exists() or not file.is_relative_to(ROOT):
            return link[0]
        name = str(file.relative_to(ROOT))
        return f"`{name}`" if text.strip("/") == name else f"{text} (`{name}`)"

    return _LINK.sub(named, markdown)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """MkDocs calls it for each page."""
    return plain(markdown, Path(page.file.abs_src_path))

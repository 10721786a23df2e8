"""Which Debian mirror this machine uses, read from apt's own source lists in both of their forms.

Pure functions over text: one-line (`deb [opts] URI suite components`) and deb822 (`Types:`/`URIs:`
stanzas). Only a plain Debian archive is of use to the private root; security, backports-only and foreign
archives (Ubuntu, vendors' own) are refused, because sid is not to be found there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

DEBIAN_SUITES = frozenset(
    {"bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"}
)
_CODENAMES = frozenset({"bullseye", "bookworm", "trixie", "forky", "duke", "sid"})
"""Vendors call their own suites `stable`, too; hardly any takes a codename of Debian's."""
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$")


@dataclass(frozen=True, slots=True)
class Source:
    """One archive of the system's lists: where, which suites, what signs it."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""

    @property
    def is_debian(self) -> bool:
        """Whether sid can be expected beside this source's own suites."""
        return (
            bool(DEBIAN_SUITES.intersection(self.suites))
            and "main" in self.components
            and "security" not in self.uri
            and not self.uri.startswith("cdrom:")
            and (self.doubt < 2 or bool(_CODENAMES.intersection(self.suites)))
        )

    @property
    def doubt(self) -> int:
        """How little speaks for Debian's own archive: browsers and dashboards, too, come as `stable main`."""
        if "debian-archive" in self.signed_by:
            return 0
        called_debian = re.search(r"\bdebian(\.org|\.list|/|$)", self.uri) is not None
        return 1 if called_debian and not self.signed_by else 2


def parse_one_line(text: str) -> Iterator[Source]:
    """The sources of a `sources.list` (sources.list(5), one-line style); other lines are passed over."""
    for raw in text.splitlines():
        match = _ONE_LINE.match(raw.partition("#")[0].strip())
        if match:
            options = dict(pair.split("=", 1) for pair in (match["options"] or "").split() if "=" in pair)
            yield Source(
                match["uri"], (match["suite"],), tuple(match["components"].split()), options.get("signed-by", "")
            )


def parse_deb822(text: str) -> Iterator[Source]:
    """The sources of a `*.sources` file (sources.list(5), deb822 style); disabled stanzas are passed over."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        signed_by = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            yield Source(
                uri,
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                signed_by if signed_by.startswith("/") else "",  # a key may stand inline: not a path
            )


def _fields(stanza: str) -> dict[str, str]:
    """A stanza's fields by lower-case name; folded lines joined by blanks, comments dropped."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] += " " + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def debian_mirror(files: Iterable[tuple[str, str]]) -> Source | None:
    """The likeliest Debian archive in (file name, text) pairs, the first of equals; None where there is none."""
    found = (
        source
        for name, text in files
        for source in (parse_deb822(text) if name.endswith(".sources") else parse_one_line(text))
        if source.is_debian
    )
    return min(found, key=lambda source: source.doubt, default=None)

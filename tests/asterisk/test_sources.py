"""apt's source lists, in both forms (sources.list(5))."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.asterisk.sources import Source, debian_mirror, parse_deb822, parse_one_line

DEB822 = """\
# the stable release
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
"""


def test_deb822_stanzas() -> None:
    first, second = parse_deb822(DEB822)
    assert first == Source(
        "http://mirror.test/debian",
        ("bookworm", "bookworm-updates"),
        ("main", "contrib"),
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    )
    assert second.signed_by == ""  # a key inside the file is no path


def test_deb822_folded_and_several_uris() -> None:
    text = "Types: deb\nURIs: http://a.test/debian\n http://b.test/debian\nSuites: sid\nComponents: main\n"
    assert [source.uri for source in parse_deb822(text)] == ["http://a.test/debian", "http://b.test/debian"]


@pytest.mark.parametrize("line", ["Enabled: no", "Types: deb-src"])
def test_deb822_disabled(line: str) -> None:
    text = f"Types: deb\nURIs: http://a.test/debian\nSuites: sid\nComponents: main\n{line}\n"
    assert not list(parse_deb822(text))


def test_one_line_with_options_and_comments() -> None:
    text = (
        "# deb http://old.test/debian bookworm main\n"
        "deb-src http://a.test/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://a.test/debian bookworm main non-free  # mine\n"
    )
    assert list(parse_one_line(text)) == [Source("http://a.test/debian", ("bookworm",), ("main", "non-free"), "/k.gpg")]


def test_the_mirror_is_debians_own() -> None:
    vendor = "deb https://vendor.test/apt stable-vendor main\n"
    security = "deb http://mirror.test/debian-security bookworm-security main\n"
    cdrom = "deb cdrom:[Debian]/ bookworm main\n"
    files = [("sources.list", cdrom + security), ("a.list", vendor), ("debian.sources", DEB822)]
    mirror = debian_mirror(files)
    assert mirror is not None
    assert mirror.uri == "http://mirror.test/debian"


@pytest.mark.parametrize(
    "vendor",
    [
        "deb [arch=amd64] https://vendor.test/browser/deb/ stable main\n",
        "deb [signed-by=/etc/apt/keyrings/v.gpg] https://vendor.test/builds/debian/ bookworm main\n",
        "deb [signed-by=/etc/apt/keyrings/v.gpg] https://vendor.test bookworm main\n",
    ],
)
@pytest.mark.parametrize(
    "debian",
    [
        ("debian.sources", DEB822),
        ("debian.list", "deb http://mirror.test/debian bookworm main\n"),
        ("debian.list", "deb http://mirror.test/debian/ stable main\n"),
        (
            "debian.sources",
            DEB822.replace("http://mirror.test/debian\n", "mirror+file:///etc/apt/mirrors/debian.list\n"),
        ),
    ],
)
def test_a_vendors_archive_is_not_taken_for_debians(vendor: str, debian: tuple[str, str]) -> None:
    """Debian 13 keeps its own list beside the vendors', and theirs often sort first."""
    mirror = debian_mirror([("a.list", vendor), debian])
    assert mirror is not None
    assert "vendor" not in mirror.uri


def test_a_house_mirror_of_any_name_will_do() -> None:
    mirror = debian_mirror([("a.list", "deb [signed-by=/house.gpg] https://packages.house.test/deb trixie main\n")])
    assert mirror is not None


def test_a_vendors_stable_alone_is_no_mirror() -> None:
    """As on Ubuntu with a browser's own list."""
    assert debian_mirror([("browser.list", "deb https://vendor.test/browser/deb/ stable main\n")]) is None


@pytest.mark.parametrize("text", ["", "deb http://archive.test/ubuntu noble main\n", "nonsense\n\0\n"])
def test_no_mirror(text: str) -> None:
    assert debian_mirror([("sources.list", text)]) is None


@given(st.text(max_size=300))
def test_any_text_is_survived(text: str) -> None:
    list(parse_deb822(text))
    list(parse_one_line(text))

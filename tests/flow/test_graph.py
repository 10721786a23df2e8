"""The picture of routes and steps."""

from pathlib import Path
from xml.etree import ElementTree as ET

from sipagent.config import load
from sipagent.flow.graph import graph, mermaid, svg

ROOT = Path(__file__).parents[2]


def test_the_picture_in_the_docs_is_of_the_example() -> None:
    """`sipagent flow-graph --config sipagent.example.toml --svg docs/flow.svg` draws it anew."""
    assert (ROOT / "docs/flow.svg").read_text() == svg(graph(load(ROOT / "sipagent.example.toml")))


def test_every_step_is_drawn_once_and_every_arrow_has_its_ends() -> None:
    drawn = graph(load(ROOT / "sipagent.example.toml"))
    ids = [node.id for node in drawn.nodes]
    assert len(ids) == len(set(ids))
    assert {end for a, _, b in drawn.edges for end in (a, b)} <= set(ids)
    shown = {node.text for node in drawn.nodes}
    assert {"menu:main", "queue:sales", "collect:order", "voicemail:office", "agent:service"} <= shown
    assert "operator" not in shown  # drawn as whoever it is
    ET.fromstring(svg(drawn))


def test_signs_of_mermaids_own_are_escaped(tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(
        '[agents.a]\ninstructions = "x"\n[[routes]]\nname = \'a "b" <c> {d}\'\ngo = "agent:a"\n', encoding="utf-8"
    )
    drawn = graph(load(file))
    assert 'r1["a #34;b#34; #60;c#62; #123;d#125;: every other call"]' in mermaid(drawn)
    ET.fromstring(svg(drawn))

"""Tables go between their markers, and prose stays."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from bench import picture, report
from bench.sitting import RESULTS
from sipagent.errors import ToolError

DOCUMENT = "# R\n\nprose\n\n<!-- crowd -->\n\nold\n\n<!-- /crowd -->\n\nmore prose\n"


def test_a_table_replaces_the_one_before_it() -> None:
    once = report.put_into(DOCUMENT, {"crowd": "| new \\1 |"})
    assert once == DOCUMENT.replace("old", "| new \\1 |")
    assert report.put_into(once, {"crowd": "| new \\1 |"}) == once


def test_a_document_without_the_markers_is_refused() -> None:
    with pytest.raises(ToolError, match="churn"):
        report.put_into(DOCUMENT, {"churn": "x"})


def test_results_have_a_place_for_every_kind() -> None:
    report.put_into(RESULTS.read_text(), dict.fromkeys(report.KINDS, "x"))


def test_the_picture_is_xml_even_of_nothing() -> None:
    ET.fromstring(picture.latency((("one & only", ()), ("other", ())), "2026"))

"""Our dashboards: which question each answers, and by what query.

One file a dashboard would be eight files of the same shape; what they share is in `panels`.
"""

from __future__ import annotations

from grafana import boards_deep, boards_noc


def boards() -> dict[str, str]:
    """Every dashboard as JSON, by its uid."""
    return {**boards_noc.boards(), **boards_deep.boards()}

"""The house style of our dashboards: a few kinds of panel, each with unit, legend, thresholds and a sentence.

Queries are PromQL with one shorthand: `{@}` in a selector is the node that was chosen above. Every panel reads from the
data source that was chosen there too, so the same files serve any Grafana.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
NODE = 'instance=~"$node"'
RUNBOOKS = os.environ.get("SIPAGENT_RUNBOOKS", "https://docs.example.com/sipagent/runbooks")
"""Where your NOC reads docs/runbooks: `make generate` with this set writes it into the dashboards."""
GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"
WIDTH = 24
_COLOUR = common_model.BigValueColorMode

Steps = Sequence[tuple[float | None, str]]
PLAIN: Steps = ((None, BLUE),)


def at_most(good: float, bad: float) -> Steps:
    """Green up to `good`, red from `bad` on."""
    return ((None, GREEN), (good, ORANGE), (bad, RED))


def at_least(bad: float, good: float) -> Steps:
    """Red below `bad`, green from `good` on."""
    return ((None, RED), (bad, ORANGE), (good, GREEN)) if bad < good else ((None, RED), (good, GREEN))


def none(at: float = 1e-9) -> Steps:
    """Anything at all is red."""
    return ((None, GREEN), (at, RED))


CALL = 'call_id="$call"'
"""Written into a query's braces: the call that was chosen (`call_variables`)."""


def call_variables() -> list[Any]:
    """Which call, also one that is over; and where its node's API is, for what the records have of it."""
    chosen = (
        dashboard.QueryVariable("call").label("Call").datasource(SOURCE)
        .query(f"label_values(sipagent_live_call_seconds{{{NODE}}}, call_id)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.NATURAL_DESC)
    )  # fmt: skip
    return [chosen, dashboard.TextBoxVariable("api").label("API").default_value("http://127.0.0.1:8090")]


def stat_panel(
    title: str, text: str, expr: str, unit: str, steps: Steps = PLAIN, *, span: int = 4, height: int = 5,
    decimals: int | None = None, empty: str = "", more: str = "",
) -> stat.Panel:  # fmt: skip
    """One figure, as large as it gets, as it is now: of a range Grafana would show the last that there was, hours ago.

    `empty` stands where there can be none; `more` is the uid of the dashboard that tells more.
    """
    if empty:
        expr = f"({expr}) >= 0"  # NaN is none
    panel = (
        stat.Panel()
        .title(title).description(text).datasource(SOURCE).unit(unit).span(span).height(height)
        .thresholds(_thresholds(steps))
        .color_mode(_COLOUR.BACKGROUND if len(steps) > 1 else _COLOUR.VALUE)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query("A", expr, title).instant())
    )  # fmt: skip
    if decimals is not None:
        panel.decimals(decimals)
    if more:
        link = (
            dashboard.DashboardLink("More").type(model.DashboardLinkType.LINK).url(f"/d/{more}?${{__url_time_range}}")
        )
        panel.links([link])
    return panel.no_value(empty) if empty else panel


def series_panel(
    title: str, text: str, queries: Mapping[str, str], unit: str, steps: Steps = PLAIN, *, span: int = 8,
    height: int = 8, stacked: bool = False, exemplars: bool = False,
) -> timeseries.Panel:  # fmt: skip
    """Lines over time, by legend; thresholds are drawn as dashed lines."""
    panel = (
        timeseries.Panel()
        .title(title).description(text).datasource(SOURCE).unit(unit).span(span).height(height).min(0)
        .fill_opacity(30 if stacked else 8).line_width(2).thresholds(_thresholds(steps))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_model.LegendDisplayMode.LIST)
            .placement(common_model.LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
    )  # fmt: skip
    if len(steps) > 1:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    for ref, (legend, expr) in zip("ABCDEFGH", queries.items(), strict=False):
        panel.with_target(_query(ref, expr, legend, exemplar=exemplars))
    return panel


@dataclass(frozen=True)
class Column:
    """One of a table: the query's value, its unit, where it turns red."""

    title: str
    expr: str
    unit: str
    steps: Steps = PLAIN


def table_panel(
    title: str, text: str, columns: Sequence[Column], by: Sequence[str], *, span: int = WIDTH, height: int = 10,
    sort: str = "", link: str = "", link_title: str = "Runbook",
) -> table.Panel:  # fmt: skip
    """The latest value of each query, joined on the first label of `by`; `sort`ed by the highest.

    `link` is where a click on that label leads.
    """
    panel = table.Panel().title(title).description(text).datasource(SOURCE).span(span).height(height)
    for ref, column in zip("ABCDEFGH", columns, strict=False):
        query = _query(ref, column.expr, column.title).instant().format(_TABLE)
        panel.with_target(query)
    hidden = {"Time": True, **{f"Time {n}": True for n in range(1, len(columns) + 1)}}
    names = {f"Value #{ref}": column.title for ref, column in zip("ABCDEFGH", columns, strict=False)}
    if len(columns) > 1:
        panel.with_transformation(_transformation("joinByField", {"byField": by[0], "mode": "outerTabular"}))
    else:
        names["Value"] = columns[0].title
    order = {name: place for place, name in enumerate([*by, *names])}
    panel.with_transformation(
        _transformation("organize", {"excludeByName": hidden, "indexByName": order, "renameByName": names})
    )
    for column in columns:
        properties = [
            model.DynamicConfigValue("unit", column.unit),
            model.DynamicConfigValue("thresholds", json.loads(_json(_thresholds(column.steps).build()))),
        ]
        if len(column.steps) > 1:
            properties.append(model.DynamicConfigValue("custom.cellOptions", {"type": "color-background"}))
        panel.override_by_name(column.title, properties)
    if link:
        links = [{"title": link_title, "url": link, "targetBlank": True}]
        panel.override_by_name(by[0], [model.DynamicConfigValue("links", links)])
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    return panel


_TABLE = PromQueryFormat.TABLE


def html_panel(title: str, content: str, *, height: int, span: int = WIDTH) -> text.Panel:
    """What no query gives."""
    return text.Panel().title(title).mode(TextMode.HTML).content(content).span(span).height(height)


def board(
    uid: str, title: str, text: str, rows: Mapping[str, Sequence[Any]], *, hours: int = 3, variables: Sequence[Any] = ()
) -> str:
    """A dashboard as JSON: rows of panels by their heading, links to all others and to the runbooks.

    `variables` besides the data source and the node.
    """
    built = (
        dashboard.Dashboard(title)
        .uid(uid).description(text).tags(["sipagent"]).timezone("browser").refresh("10s").editable()
        .time(f"now-{hours}h", "now").tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Dashboards").type(model.DashboardLinkType.DASHBOARDS)
            .tags(["sipagent"]).as_dropdown(True).keep_time(True).include_vars(True)
        )
        .link(
            dashboard.DashboardLink("Runbooks").type(model.DashboardLinkType.LINK)
            .url(f"{RUNBOOKS}/README.md").target_blank(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("node").label("Node").datasource(SOURCE)
            .query("label_values(sipagent_build_info, instance)").refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True).include_all(True).all_value(".+").current(model.VariableOption(text="All", value="$__all"))
        )
    )  # fmt: skip
    for variable in variables:
        built.with_variable(variable)
    number = 0
    for heading, panels in rows.items():
        built.with_row(dashboard.Row(heading).id(number := number + 1))
        for panel in panels:
            built.with_panel(panel.id(number := number + 1))  # links to a panel name it by this
    return _json(built.build())


def _query(ref: str, expr: str, legend: str, *, exemplar: bool = False) -> prometheus.Dataquery:
    query = prometheus.Dataquery().ref_id(ref).expr(expr.replace("@", NODE)).legend_format(legend).datasource(SOURCE)
    return query.exemplar(True) if exemplar else query


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    values = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(values)


def _transformation(name: str, options: Any) -> model.DataTransformerConfig:
    return model.DataTransformerConfig(id_val=name, options=options)


def _json(value: Any) -> str:
    return json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(value)), indent=1, sort_keys=True) + "\n"

"""How panels, variables and a whole page are spelt in Grafana's JSON. Nothing here knows what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

COLUMNS = 24
"""The width of a page in Grafana's grid."""

TAG = "ultravox-batch-monitor"
"""The pages find each other by it."""

SCRAPE_LABELS = ("job", "instance", "namespace", "pod", "container", "endpoint", "service")
"""Labels that a series has from where it was scraped."""

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA = 39  # of Grafana 10.4: later ones migrate it, earlier ones ignore what they do not know
MOMENT = "time:MMM D, HH:mm"
"""The unit of instants, which are in milliseconds."""


@dataclass(frozen=True)
class Query:
    """What is asked. `legend`: the series' name, {{label}} for a label's value."""

    expr: str
    legend: str = ""
    table: bool = False  # one row a series, as it stands at the end of the time shown
    instant: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table: the values of `expr`, or a label of the other columns' series."""

    title: str
    expr: str = ""
    label: str = ""
    width: int | None = None  # pixels; None: what is left
    look: Mapping[str, Any] = field(default_factory=dict)  # properties of the field's configuration


def thresholds(base: str, *steps: tuple[float, str]) -> Json:
    """A colour, and other colours from a value on."""
    found: list[Json] = [{"color": base, "value": None}]
    return {
        "mode": "absolute",
        "steps": found + [{"color": color, "value": value} for value, color in steps],
    }


def mapping(texts: Mapping[int, tuple[str, str]]) -> list[Json]:
    """Texts and colours in place of numbers."""
    options = {
        str(value): {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    return [{"type": "value", "options": options}]


def fixed(color: str) -> Json:
    """One colour, whatever the value."""
    return {"mode": "fixed", "fixedColor": color}


def override(name: str, properties: Mapping[str, Any], *, by: str = "byName") -> Json:
    """Another look for the series or the column of this name."""
    return {
        "matcher": {"id": by, "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def colors(names: Mapping[str, str]) -> list[Json]:
    """A fixed colour for each series of these names."""
    return [override(name, {"color": fixed(color)}) for name, color in names.items()]


def panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    options: Json,
    defaults: Json,
    overrides: Iterable[Json] = (),
    **more: Any,
) -> Json:
    """A panel without its place. `defaults`: the fields' configuration."""
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [_target(query, index) for index, query in enumerate(queries)],
        "options": options,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        **more,
    }


def _ref(index: int) -> str:
    return chr(ord("A") + index)


def _target(query: Query, index: int) -> Json:
    at_once = query.instant or query.table
    return {
        "refId": _ref(index),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "editorMode": "code",
        "format": "table" if query.table else "time_series",
        "instant": at_once,
        "range": not at_once,
    }


def stat(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    empty: str,
    levels: Json | None = None,
    texts: list[Json] | None = None,
    filled: bool = False,
    curve: bool = False,
    overrides: Iterable[Json] = (),
    **defaults: Any,
) -> Json:
    """One large value for each query. `filled`: the colour is the background's; `curve`: how it came about."""
    return panel(
        "stat",
        title,
        description,
        queries if curve else [Query(one.expr, one.legend, instant=True) for one in queries],
        options={
            "colorMode": "background_solid" if filled else "value",
            "graphMode": "area" if curve else "none",
            "justifyMode": "center",
            "orientation": "vertical" if len(queries) > 1 else "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
            "wideLayout": False,
        },
        defaults={
            "unit": unit,
            "noValue": empty,
            "color": {"mode": "thresholds"},
            "thresholds": levels or thresholds("text"),
            "mappings": texts or [],
            **defaults,
        },
        overrides=overrides,
    )


def curves(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    empty: str,
    stacked: bool = False,
    bars: bool = False,
    fill: int = 8,
    overrides: Iterable[Json] = (),
    right: bool = False,
    calcs: Sequence[str] = (),
    custom: Json | None = None,
    **defaults: Any,
) -> Json:
    """Values over time. `right`: the legend is a table beside it; `calcs`: what it says besides names."""
    return panel(
        "timeseries",
        title,
        description,
        queries,
        options={
            "legend": {
                "calcs": list(calcs),
                "displayMode": "table" if right else "list",
                "placement": "right" if right else "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        defaults={
            "unit": unit,
            "noValue": empty,
            "min": 0,
            "color": {"mode": "palette-classic"},
            "custom": {
                "drawStyle": "bars" if bars else "line",
                "lineInterpolation": "linear",
                "lineWidth": 0 if bars or stacked else 2,
                "fillOpacity": 70 if bars or stacked else fill,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
                **(custom or {}),
            },
            **defaults,
        },
        overrides=overrides,
    )


def timeline(
    title: str,
    description: str,
    *queries: Query,
    texts: list[Json],
    empty: str,
    **options: Any,
) -> Json:
    """What each series was when, by the texts and colours of its numbers."""
    return panel(
        "state-timeline",
        title,
        description,
        queries,
        options={
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "mergeValues": True,
            "perPage": 20,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
            **options,
        },
        defaults={
            "unit": "none",
            "noValue": empty,
            "color": {"mode": "thresholds"},
            "thresholds": thresholds("text"),
            "mappings": texts,
            "custom": {"fillOpacity": 75, "lineWidth": 0, "spanNulls": False},
        },
    )


def table(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    empty: str,
    sort: tuple[str, bool] | None = None,
    rest: bool = False,
    hide: Sequence[str] = (),
) -> Json:
    """One row for each set of labels. `sort`: a column's title, and whether the largest comes first.

    `rest`: labels without a column are shown, too, after the others, but for those of the scrape and `hide`.
    A column with both an `expr` and a `label` shows the label.
    """
    asked = [column for column in columns if column.expr]
    fields = {
        column.title: column.label or (f"Value #{_ref(asked.index(column))}" if len(asked) > 1 else "Value")
        for column in columns
    }
    hidden = ["Time", "__name__", *SCRAPE_LABELS, *hide]
    transformations: list[Json] = [{"id": "merge", "options": {}}] if len(asked) > 1 else []
    arranged: Json = {
        "excludeByName": dict.fromkeys(hidden, True),
        "indexByName": {fields[column.title]: index for index, column in enumerate(columns)},
        "renameByName": {
            fields[column.title]: column.title for column in columns if fields[column.title] != column.title
        },
    }
    transformations.append({"id": "organize", "options": arranged})
    if not rest:
        names = [column.title for column in columns]
        transformations.append({"id": "filterFieldsByName", "options": {"include": {"names": names}}})
    sorting = [] if sort is None else [{"displayName": sort[0], "desc": sort[1]}]
    return panel(
        "table",
        title,
        description,
        [Query(column.expr, table=True) for column in asked],
        options={"cellHeight": "sm", "showHeader": True, "sortBy": sorting},
        defaults={
            "unit": "none",
            "noValue": empty,
            "color": {"mode": "thresholds"},
            "thresholds": thresholds("text"),
            "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False},
        },
        overrides=[
            override(
                column.title,
                {
                    "noValue": "–",  # of a cell; that of the panel says why there is no row
                    **({} if column.width is None else {"custom.width": column.width}),
                    **column.look,
                },
            )
            for column in columns
        ],
        transformations=transformations,
    )


def words(title: str, description: str, markdown: str) -> Json:
    """Text."""
    made = panel(
        "text",
        title,
        description,
        (),
        options={"mode": "markdown", "content": markdown},
        defaults={},
    )
    del made["targets"], made["fieldConfig"]
    return made


# Variables


def datasource_variable() -> Json:
    """Which Prometheus."""
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "regex": "",
    }


def variable(
    name: str,
    label: str,
    query: str,
    description: str,
    *,
    several: bool = True,
    regex: str = "",
    whole: str = ".*",
) -> Json:
    """Values that Prometheus knows; several of them, at first all, or one.

    `whole`: what all of them are in a query; "": their list.
    """
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "regex": regex,
        "refresh": 2,  # when the time shown changes
        "sort": 5,  # by the alphabet, whatever the case
        "hide": 0,
        "multi": several,
        "includeAll": several,
        "current": {"text": ["All"], "value": ["$__all"]} if several else {},
        **({"allValue": whole} if several and whole else {}),
    }


def choice(name: str, label: str, values: Sequence[str], description: str) -> Json:
    """One or several of these values, at first all."""
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "custom",
        "query": ",".join(values),
        "options": [],
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def annotation(name: str, expr: str, color: str, title: str, *, shown: bool = True) -> Json:
    """Marks on the curves for as long as `expr` is above 0."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": shown,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "step": "60s",
        "titleFormat": title,
        "target": {"refId": "Anno", "expr": expr, "interval": "60s", "legendFormat": title},
    }


# Pages


def section(title: str) -> tuple[int, list[tuple[int, Json]]]:
    """A heading."""
    return 1, [(COLUMNS, {"type": "row", "title": title, "collapsed": False, "panels": []})]


def page(
    uid: str,
    title: str,
    description: str,
    *,
    variables: Sequence[Json],
    rows: Sequence[tuple[int, list[tuple[int, Json]]]],
    annotations: Sequence[Json] = (),
    since: str = "now-6h",
) -> Json:
    """A dashboard. `rows`: the height of each, and its panels with their widths, from left to right."""
    placed: list[Json] = []
    y = 0
    for height, panels in rows:
        x = 0
        for width, made in panels:
            place = {"h": height, "w": width, "x": x, "y": y}
            placed.append({"id": len(placed) + 1, "gridPos": place, **made})
            x += width
        if x != COLUMNS:
            raise ValueError(f"{title}: a row of {x} columns: {[made['title'] for _, made in panels]}")
        y += height
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one cross-hair for all panels
        "refresh": "30s",
        "time": {"from": since, "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "tags": [TAG],
                "title": "",
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
            }
        ],
        "annotations": {"list": list(annotations)},
        "templating": {"list": [datasource_variable(), *variables]},
        "panels": placed,
    }

"""What a dashboard asks Prometheus, panel by panel, with its variables filled in as Grafana would."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GRAFANAS = {"__rate_interval": "5m", "__interval": "1m", "__range": "6h"}
"""What Grafana works out itself from the time shown and the scrape interval; `variables` may say otherwise."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)(?:[.:]\w+)*\}|(\w+))")
_QUERY = re.compile(r"label_values\((?P<of>.*), *\w+\)|query_result\((?P<result>.*)\)", re.DOTALL)


@dataclass(frozen=True)
class Asked:
    """One expression. `title`: the panel's, or the name of the variable or annotation; `ref`: which query of it."""

    kind: str  # panel, variable, annotation
    title: str
    ref: str
    expr: str


def filled(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables' values; KeyError: unknown."""
    values = GRAFANAS | dict(variables)
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)


def panel_queries(dashboard: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Asked]:
    """Every expression: of panels (those in collapsed rows, too), of variables, of annotations.

    `variables`: batch_id for the campaign's page, instance for the monitor's; the others are all unless named.
    """
    values = {
        one["name"]: one["allValue"] for one in dashboard["templating"]["list"] if one.get("allValue")
    } | dict(variables)
    for panel in dashboard["panels"]:
        for inner in (panel, *panel.get("panels", ())):
            for target in inner.get("targets", ()):
                yield Asked("panel", inner["title"], target["refId"], filled(target["expr"], values))
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query":
            found = _QUERY.fullmatch(one["query"]["query"])
            assert found, f"variable {one['name']}: neither label_values nor query_result"
            expr = found["of"] or found["result"]
            yield Asked("variable", one["name"], "", filled(expr, values))
    for one in dashboard["annotations"]["list"]:
        yield Asked("annotation", one["name"], "", filled(one["expr"], values))

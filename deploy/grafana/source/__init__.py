"""The source of the dashboards: `make dashboards` writes ../dashboards/*.json from it.

A page is a list of rows of panels (campaigns.py, campaign.py, health.py); how a panel is spelt in Grafana's JSON
is in panels.py, what several pages ask Prometheus for in promql.py. docs/grafana.md says how to change something.
"""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana.source import campaign, campaigns, health
from deploy.grafana.source.panels import Json

FOLDER = Path(__file__).parent.parent / "dashboards"


def dashboards() -> dict[str, Json]:
    """Every dashboard, by the name of its file."""
    pages = (campaigns.dashboard(), campaign.dashboard(), health.dashboard())
    return {f"{page['uid']}.json": page for page in pages}


def text(dashboard: Json) -> str:
    """What stands in its file."""
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"

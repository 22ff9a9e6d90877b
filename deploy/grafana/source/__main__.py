"""Writes ../dashboards/*.json: python -m deploy.grafana.source, from the project's folder."""

from __future__ import annotations

from deploy.grafana.source import FOLDER, dashboards, text

for name, dashboard in dashboards().items():
    (FOLDER / name).write_text(text(dashboard), encoding="utf-8")

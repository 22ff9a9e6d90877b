"""Rule files of Prometheus, as one PrometheusRule for its operator: `python -m deploy.kubernetes.prometheus_rule FILE…`."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml


def manifest(*paths: Path) -> str:
    """The PrometheusRule with every group of these files, in their order. It is named after the first file."""
    groups = [group for path in paths for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": paths[0].stem, "labels": {"release": "kube-prometheus-stack"}},
        "spec": {"groups": groups},
    }
    written: str = yaml.safe_dump(rule, sort_keys=False, width=120)
    return f"# Written by `make manifests` from {', '.join(path.name for path in paths)}: change it there.\n{written}"


if __name__ == "__main__":
    sys.stdout.write(manifest(*map(Path, sys.argv[1:])))

"""The commands of docs/grafana.md do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent
COMMANDS = re.findall(r"```sh\n(.*?)\n```", (ROOT / "docs/grafana.md").read_text(encoding="utf-8"), re.DOTALL)


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_every_command_is_tried_here():
    assert COMMANDS == ["kubectl apply -k deploy/grafana -n monitoring", "make dashboards"]


def test_kubectl_makes_a_labelled_config_map_of_each_dashboard():
    """There is no cluster here: what would be applied is rendered."""
    [command] = [one for one in COMMANDS if one.startswith("kubectl")]
    rendered = run("kubectl", "kustomize", command.split()[3])
    maps = list(yaml.safe_load_all(rendered))
    held = {}
    for one in maps:
        assert one["kind"] == "ConfigMap"
        assert one["metadata"]["labels"] == {"grafana_dashboard": "1"}
        held |= one["data"]
    committed = (ROOT / "deploy/grafana/dashboards").glob("*.json")
    assert held == {path.name: path.read_text(encoding="utf-8") for path in committed}


def test_the_dashboards_are_written_as_they_are_committed(tmp_path):
    before = {path: path.read_bytes() for path in (ROOT / "deploy/grafana/dashboards").glob("*")}
    run(sys.executable, "-m", "deploy.grafana.source")  # what `make dashboards` runs
    assert {path: path.read_bytes() for path in before} == before

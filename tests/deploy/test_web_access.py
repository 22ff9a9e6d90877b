"""What docs/install.md and docs/security.md show of TLS and passwords: rendered by kustomize, checked by promtool."""

from __future__ import annotations

import os
import re

import pytest
import yaml
from containers import ROOT, command
from doors import PASSWORD, write_certificate

pytestmark = pytest.mark.deploy


def shown(page, *, has):
    """The one YAML block of a page that holds this."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    [found] = [
        one for one in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if has in one
    ]
    return yaml.safe_load(found)


def test_the_patch_for_kubernetes_gives_the_pod_its_file_and_the_probes_tls(tmp_path):
    base = os.path.relpath(ROOT / "deploy/kubernetes/base", tmp_path)
    patches = shown("install.md", has="scheme, value: HTTPS")
    tmp_path.joinpath("kustomization.yaml").write_text(
        yaml.safe_dump({"namespace": "campaigns", "resources": [base], "patches": patches})
    )
    text = command("kubectl", "kustomize", str(tmp_path))
    [deployment] = [one for one in yaml.safe_load_all(text) if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["args"][-1] == "--web.config.file=/etc/ultravox-batch-monitor-web/web.yml"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
    assert {one["name"] for one in container["volumeMounts"]} <= {one["name"] for one in pod["volumes"]}
    assert {"name": "web", "secret": {"secretName": "ultravox-batch-monitor-web"}} in pod["volumes"]


def test_prometheus_takes_the_scrape_job(tmp_path):
    [job] = shown("security.md", has="job_name")
    write_certificate(tmp_path)
    tmp_path.joinpath("password").write_text(PASSWORD)
    job["basic_auth"]["password_file"] = str(tmp_path / "password")
    job["tls_config"]["ca_file"] = str(tmp_path / "cert.pem")
    tmp_path.joinpath("prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    command("promtool", "check", "config", str(tmp_path / "prometheus.yml"))

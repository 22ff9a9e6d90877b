"""The manifests: rendered, validated, restricted, and the Deployment run by podman as a cluster would."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import promql
import pytest
import yaml
from containers import IMAGE, ROOT, command, docker, eventually, free_port, get, runtime

from deploy.kubernetes.prometheus_rule import manifest
from monitor import config, shards

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]

FOLDER = ROOT / "deploy/kubernetes"
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
KEY = "01234567.0123456789abcdef0123456789abcdef"
LATEST = "1.35"
"""The version of Kubernetes whose schemas are used."""


def rendered(folder: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Every object, by its kind."""
    objects: dict[str, list[dict[str, Any]]] = {}
    for one in yaml.safe_load_all(command("kubectl", "kustomize", str(FOLDER / folder))):
        objects.setdefault(one["kind"], []).append(one)
    return objects


@pytest.fixture(scope="module", params=["base", "prometheus-operator"])
def objects(request):
    return rendered(request.param)


def pod(objects):
    [deployment] = objects["Deployment"]
    return deployment["spec"]["template"]["spec"]


@pytest.mark.parametrize("folder", ["base", "prometheus-operator"])
def test_every_key_is_one_that_kubernetes_knows(folder, tmp_path):
    (tmp_path / "all.yaml").write_text(command("kubectl", "kustomize", str(FOLDER / folder)))
    said = command("kubernetes-validate", "-k", LATEST, "--strict", str(tmp_path / "all.yaml"))
    passed = [line for line in said.splitlines() if "passed for resource" in line]
    unknown = [line for line in said.splitlines() if "Couldn't find schema" in line]
    assert len(passed) >= 6
    assert len(unknown) == (2 if folder == "prometheus-operator" else 0), "the operator's own kinds"


def test_a_misspelt_key_would_be_found(tmp_path):
    text = command("kubectl", "kustomize", str(FOLDER / "base"))
    (tmp_path / "all.yaml").write_text(text.replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))
    with pytest.raises(AssertionError, match="readonlyRootFilesystem"):
        command("kubernetes-validate", "-k", LATEST, "--strict", str(tmp_path / "all.yaml"))


def test_the_pod_is_one_that_the_restricted_standard_admits(objects):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    spec = pod(objects)
    of_pod = spec["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["runAsUser"] == of_pod["runAsGroup"] == of_pod["fsGroup"] == 10042
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert {next(iter(volume.keys() - {"name"})) for volume in spec["volumes"]} <= {
        "configMap",
        "persistentVolumeClaim",
        "emptyDir",
    }
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


def test_one_process_has_the_state_file(objects):
    [deployment] = objects["Deployment"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    [claim] = objects["PersistentVolumeClaim"]
    claims = [
        v["persistentVolumeClaim"]["claimName"]
        for v in pod(objects)["volumes"]
        if "persistentVolumeClaim" in v
    ]
    assert claims == [claim["metadata"]["name"]]


def test_whoever_points_at_something_finds_it(objects):
    [deployment], [service], [policy] = objects["Deployment"], objects["Service"], objects["NetworkPolicy"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    [container] = pod(objects)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for selector in (
        service["spec"]["selector"],
        policy["spec"]["podSelector"]["matchLabels"],
        deployment["spec"]["selector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
    assert [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]] == ["http"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert (
        deployment["spec"]["template"]["spec"]["serviceAccountName"]
        == objects["ServiceAccount"][0]["metadata"]["name"]
    )


def test_the_secret_is_pointed_at_and_not_in_here(objects):
    assert "Secret" not in objects
    [container] = pod(objects)["containers"]
    [variable] = container["env"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "ultravox-batch-monitor", "key": "api-key"}


def test_the_configuration_is_right_and_mounted(objects, tmp_path):
    held = next(one for one in objects["ConfigMap"] if "config.yaml" in one["data"])
    (tmp_path / "config.yaml").write_text(held["data"]["config.yaml"])
    [container] = pod(objects)["containers"]
    loaded = config.load(tmp_path / "config.yaml", {"ULTRAVOX_API_KEY": KEY})
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    names = {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod(objects)["volumes"]}

    assert names["config"] == held["metadata"]["name"], (
        "the name with the hash, so that a change is a new pod"
    )
    assert container["args"] == ["run", "--config.file", f"{mounts['config']}/config.yaml"]
    assert Path(loaded.storage_path).parent == Path(mounts["state"])


def test_prometheus_is_brought_by_its_operator():
    objects = rendered("prometheus-operator")
    [watched], [service], [rule] = objects["ServiceMonitor"], objects["Service"], objects["PrometheusRule"]
    shipped = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]

    assert watched["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {one["port"] for one in watched["spec"]["endpoints"]} <= {
        p["name"] for p in service["spec"]["ports"]
    }
    assert service["metadata"]["labels"][watched["spec"]["jobLabel"]] == "ultravox-batch-monitor", (
        "as the rules say"
    )
    assert rule["spec"]["groups"] == shipped


def test_the_rule_is_what_make_manifests_writes_and_promtool_takes_it(tmp_path):
    written = (FOLDER / "prometheus-operator/prometheus-rule.yaml").read_text(encoding="utf-8")
    assert written == manifest(*RULES), "run `make manifests`"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(yaml.safe_load(written)["spec"]))
    assert "SUCCESS" in command(
        "promtool", "check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yml")
    )


def test_the_dashboards_are_where_grafanas_sidecar_looks():
    maps = rendered("prometheus-operator")["ConfigMap"]
    labelled = [one for one in maps if one["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert {name for one in labelled for name in one["data"]} == {
        path.name for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")
    }


# Shards


@pytest.fixture(params=["base", "prometheus-operator"])
def sharded(request, tmp_path):
    """An overlay as docs/growing.md has it."""
    [page] = [block for block in promql.fenced(ROOT / "docs/growing.md", "yaml") if "components:" in block]
    overlay = yaml.safe_load(page)
    back = os.path.relpath(FOLDER, tmp_path.resolve())
    overlay["resources"] = [f"{back}/{request.param}"]
    overlay["components"] = [
        path.replace("path/to/deploy/kubernetes", back) for path in overlay["components"]
    ]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    shutil.copy(FOLDER / "base/config.yaml", tmp_path)
    return tmp_path


def test_shards_have_keys_that_kubernetes_knows_and_what_the_restricted_standard_admits(sharded):
    (sharded / "all.yaml").write_text(command("kubectl", "kustomize", str(sharded)))
    said = command("kubernetes-validate", "-k", LATEST, "--strict", str(sharded / "all.yaml"))
    assert "passed for resource" in said
    objects = rendered(sharded)
    objects["Deployment"] = objects["StatefulSet"]
    test_the_pod_is_one_that_the_restricted_standard_admits(objects)
    test_whoever_points_at_something_finds_it(objects)


def test_there_are_as_many_shards_as_each_is_told_and_they_find_each_other(sharded):
    objects = rendered(sharded)
    assert objects.keys().isdisjoint({"Deployment", "PersistentVolumeClaim"})
    [pods], [service], [policy] = objects["StatefulSet"], objects["Service"], objects["NetworkPolicy"]
    [container] = pod({"Deployment": [pods]})["containers"]
    options = [one.partition("=") for one in container["args"] if one.startswith("--shard")]
    given = {name: value for name, _, value in options}
    names = {one["name"]: one["valueFrom"] for one in container["env"]}
    assert names["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    count = pods["spec"]["replicas"]
    name, port = pods["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert pods["spec"]["serviceName"] == service["metadata"]["name"]
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    for ordinal in range(count):
        told = shards.parse(given["--shard"].replace("$(POD_NAME)", f"{name}-{ordinal}"))
        assert told == shards.Shard(ordinal, count)
        address = given["--shard.peers"].replace("{shard}", str(ordinal))
        assert address == f"http://{name}-{ordinal}.{service['metadata']['name']}:{port}"
    [to] = [rule for rule in policy["spec"]["egress"] if "to" in rule]
    assert to["to"] == [{"podSelector": policy["spec"]["podSelector"]}]
    assert [one["port"] for one in to["ports"]] == [container["ports"][0]["containerPort"]]
    watched = [
        one for one in objects["Service"] if one["metadata"]["labels"]["app.kubernetes.io/name"] == name
    ]
    assert len(watched) == 1, "each pod is scraped once"


def test_each_shard_has_a_volume_of_its_own(sharded):
    [pods] = rendered(sharded)["StatefulSet"]
    [claim] = pods["spec"]["volumeClaimTemplates"]
    [container] = pods["spec"]["template"]["spec"]["containers"]
    mounts = {one["name"] for one in container["volumeMounts"]}
    volumes = {one["name"] for one in pods["spec"]["template"]["spec"]["volumes"]}
    assert claim["metadata"]["name"] in mounts
    assert mounts == volumes | {claim["metadata"]["name"]}
    assert claim["metadata"]["name"] not in volumes


@pytest.mark.skipif(shutil.which("podman") is None, reason="only podman plays manifests")
def test_the_deployment_runs(tmp_path):
    """The pod as rendered, but for its Secret, in a cluster of one machine."""
    command("make", "image", f"DOCKER={runtime()}", timeout=280)
    name, port = f"ubm-{uuid.uuid4().hex[:8]}", free_port()
    objects = rendered("base")
    [deployment], [claim] = objects["Deployment"], objects["PersistentVolumeClaim"]
    held = next(one for one in objects["ConfigMap"] if "config.yaml" in one["data"])
    deployment["metadata"]["name"] = name
    claim["metadata"]["name"] = name
    template = deployment["spec"]["template"]["spec"]
    [container] = template["containers"]
    container["imagePullPolicy"] = "Never"
    container["image"] = f"localhost/{IMAGE}:latest"
    container["ports"][0]["hostPort"] = port
    for volume in template["volumes"]:
        if "persistentVolumeClaim" in volume:
            volume["persistentVolumeClaim"]["claimName"] = name
    container["env"] = [{"name": "ULTRAVOX_API_KEY", "value": KEY}]  # podman 4 cannot take it from a Secret
    played = tmp_path / "pod.yaml"
    played.write_text(yaml.safe_dump_all([held, claim, deployment]))
    try:
        command("podman", "kube", "play", "--network", "bridge", str(played))
        eventually("healthy", lambda: get(f"http://127.0.0.1:{port}/-/healthy")[0] == 200, within=60)
        [found] = command(
            "podman", "ps", "--filter", f"name={name}-pod", "--format", "{{.Names}}", "--noheading"
        ).split()[-1:]
        assert command("podman", "exec", found, "id", "-u").strip() == "10042"
        written = subprocess.run(
            ["podman", "exec", found, "touch", "/opt/x"], capture_output=True, text=True, check=False
        )
        assert "Read-only file system" in written.stderr
        assert "monitor.db" in docker("exec", found, "ls", "/var/lib/ultravox-batch-monitor")
    finally:
        command("podman", "pod", "rm", "--force", f"{name}-pod-0", check=False)
        command("podman", "volume", "rm", "--force", name, "tmp", held["metadata"]["name"], check=False)

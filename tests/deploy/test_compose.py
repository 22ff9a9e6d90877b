"""The compose stack, as `docker compose up` brings it: an alert goes all the way, and every panel has something to show."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import IMAGE, ROOT, command, compose, docker, eventually, free_port, get, runtime

from deploy.grafana.source import dashboards
from monitor.alerts import KINDS
from monitor.simulator import default_api_key
from tests.deploy.panels import may_be_empty, panel_queries

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

FILE = ROOT / "deploy/compose/compose.yaml"
STARTED = ("simulator", "monitor", "prometheus", "alertmanager", "webhook")
"""All but Grafana, whose dashboards test_dashboards.py and the panels below look after."""

WEBHOOK = """
import http.server, sys

class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        print(body.decode(), flush=True)
    def log_message(self, *_): pass

http.server.HTTPServer(("", 8080), Hook).serve_forever()
"""


def rendered(**environment: str) -> dict[str, Any]:
    text = command(*compose(), "-f", str(FILE), "config", env=environment | {"PATH": os.environ["PATH"]})
    return dict(yaml.safe_load(text))


class Stack:
    """The stack under a name of its own, on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.first_gauge = 0.0
        """Seconds from `up` to the first gauge in Prometheus."""
        self.project = f"ubm-{uuid.uuid4().hex[:8]}"
        ports = {"monitor": 10042, "prometheus": 9090, "alertmanager": 9093}
        self._ports = {name: free_port() for name in ports}
        (folder / "alertmanager").mkdir()
        shipped = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
        told = [{"url": "http://webhook:8080/", "send_resolved": True}]
        shipped["receivers"] = [
            {"name": receiver["name"], "webhook_configs": told} for receiver in shipped["receivers"]
        ]
        (folder / "alertmanager/alertmanager.yml").write_text(yaml.safe_dump(shipped))
        (folder / "webhook.py").write_text(WEBHOOK)
        # The Compose file says !override for a list that is not to be added to.
        override = "services:\n" + "".join(
            f'  {name}: {{ports: !override ["127.0.0.1:{self._ports[name]}:{port}"]}}\n'
            for name, port in ports.items()
            if name != "alertmanager"
        )
        override += f"""
  alertmanager:
    ports: !override ["127.0.0.1:{self._ports["alertmanager"]}:9093"]
    volumes: !override ["{folder}/alertmanager:/etc/alertmanager:ro", "alertmanager:/alertmanager"]
  webhook:
    image: {IMAGE}
    entrypoint: [python, /webhook.py]
    volumes: ["{folder}/webhook.py:/webhook.py:ro"]
"""
        (folder / "override.yaml").write_text(override)
        self._files = ("-f", str(FILE), "-f", str(folder / "override.yaml"))

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        return command(*compose(), "-p", self.project, *self._files, *arguments, timeout=timeout)

    def url(self, service: str, path: str) -> str:
        return f"http://127.0.0.1:{self._ports[service]}{path}"

    def json(self, service: str, path: str) -> Any:
        """The answer; None while there is none."""
        status, body = get(self.url(service, path))
        return json.loads(body) if status == 200 else None

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.json("prometheus", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        return list(answer["data"]["result"]) if answer else []

    def heard(self) -> list[dict[str, Any]]:
        """What the webhook was told, as Alertmanager wrote it."""
        lines = docker("logs", f"{self.project}-webhook-1").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def containers(self) -> list[str]:
        found = docker("ps", "--filter", f"name={self.project}-", "--format", "{{.Names}}")
        return found.split()


def _checked(stack: Stack, over: threading.Event) -> None:
    """Podman runs no health checks of its own accord where there is no systemd."""
    while not over.wait(1):
        for name in stack.containers():
            docker("healthcheck", "run", name, check=False)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, up, and seen by its Prometheus."""
    command("make", "image", f"DOCKER={runtime()}", timeout=280)
    made = Stack(tmp_path_factory.mktemp("compose"))
    over = threading.Event()
    checks = threading.Thread(target=_checked, args=(made, over), daemon=True)
    if Path(runtime()).name == "podman":
        checks.start()
    try:
        began = time.monotonic()
        made.compose("up", "-d", "--no-build", "--pull", "never", *STARTED)
        eventually("a gauge", lambda: made.query("ultravox_batch_calls"), within=60)
        made.first_gauge = time.monotonic() - began
        yield made
    finally:
        over.set()
        if checks.is_alive():
            checks.join()
        made.compose("down", "--volumes", "--timeout", "15")


def test_without_a_key_the_simulator_is_the_source_and_with_one_the_account_is():
    simulated, real = rendered(), rendered(ULTRAVOX_API_KEY="01234567.secret")

    assert "simulator" in simulated["services"]
    assert "simulator" not in real["services"]
    assert simulated["services"]["monitor"]["command"][-1] == "/etc/ultravox-batch-monitor/config.yaml"
    assert real["services"]["monitor"]["command"][-1] == "/etc/ultravox-batch-monitor/config.account.yaml"
    assert real["services"]["monitor"]["environment"]["ULTRAVOX_API_KEY"] == "01234567.secret"
    assert json.dumps(real).count("01234567.secret") == 1, "the key is for the monitor alone"


def test_the_keys_are_those_of_the_simulator():
    given = rendered()["services"]["monitor"]["environment"]

    assert {name: value for name, value in given.items() if name.startswith("SIMULATOR_KEY")} == {
        f"SIMULATOR_KEY_{account.upper()}": default_api_key(account)
        for account in ("main", "agency", "partner")
    }


def test_nothing_listens_to_the_outside_and_everything_is_bounded():
    for name, service in rendered()["services"].items():
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        assert service["healthcheck"]["test"], name
        pinned = service["image"] == IMAGE or service["image"].rpartition(":")[2][0].isdigit()
        assert pinned or service["image"].rpartition(":")[2].startswith("v"), service["image"]


def test_it_starts_in_order_and_prometheus_soon_has_the_monitor(stack, figures):
    def up() -> set[tuple[str, str]]:
        return {(found["metric"]["job"], found["value"][1]) for found in stack.query("up")}

    # Each job is scraped at its own place in the 15 seconds: the monitor's may be the first.
    jobs = {("ultravox-batch-monitor", "1"), ("prometheus", "1"), ("alertmanager", "1")}
    eventually(f"{jobs} scraped", lambda: up() == jobs, within=40)
    figures.append(f"from `compose up` to the first gauge in Prometheus: {stack.first_gauge:.1f} s")


def test_every_rule_loads(stack):
    groups = stack.json("prometheus", "/api/v1/rules")["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    shipped = yaml.safe_load((ROOT / "deploy/prometheus/rules/ultravox-batch-monitor.yml").read_text())

    assert rules.keys() == {rule["alert"] for group in shipped["groups"] for rule in group["rules"]}
    eventually(
        "rules evaluated",
        lambda: all(
            rule["health"] == "ok"
            for group in stack.json("prometheus", "/api/v1/rules")["data"]["groups"]
            for rule in group["rules"]
        ),
        within=40,
    )


def test_an_alert_goes_from_the_simulator_to_the_webhook(stack):
    def told() -> list[dict[str, Any]]:
        return [alert for message in stack.heard() for alert in message["alerts"]]

    [alert, *_] = eventually("an alert at the webhook", told, within=240)
    fired = stack.json("monitor", "/api/v1/alerts")["data"]["alerts"]

    assert alert["labels"]["alertname"] in KINDS
    assert alert["labels"] in [known["labels"] for known in fired]
    assert alert["annotations"]["summary"]


def test_every_expression_of_every_panel_has_data(stack, figures):
    """Each on its own, its variables filled; the few that may be empty on a good day are named with the reason."""
    running = 'max by (batch_id) (ultravox_batch_state{state="running"} == 1 and on (batch_id) ultravox_batch_window_end_timestamp_seconds and on (batch_id) ultravox_batch_scheduled_calls)'
    [batch, *_] = eventually("a running batch", lambda: stack.query(running), within=60)
    variables = {"batch_id": batch["metric"]["batch_id"], "instance": "monitor.*"}
    asked = [(page["uid"], one) for page in dashboards().values() for one in panel_queries(page, variables)]
    needed = [(uid, one) for uid, one in asked if may_be_empty(uid, one) is None]

    def empty() -> list[str]:
        return [f"{uid}, {one.title}, {one.ref}" for uid, one in needed if not stack.query(one.expr)]

    until = time.monotonic() + 60  # rates need some scrapes
    while (missing := empty()) and time.monotonic() < until:
        time.sleep(5)
    assert missing == []
    for uid, title in dict.fromkeys((uid, f"{one.kind} {one.title}") for uid, one in asked):
        parts = []
        for one in (one for at, one in asked if (at, f"{one.kind} {one.title}") == (uid, title)):
            found = len(stack.query(one.expr))
            why = "" if found else f" ({may_be_empty(uid, one)})"
            parts.append(f"{one.ref or '-'} {found}{why}")
        figures.append(f"{uid} | {title} | {', '.join(parts)}")

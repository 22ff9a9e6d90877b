"""The commands of docs/install.md, typed as they stand there, but for names, ports and folders."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from containers import ROOT, docker, eventually, free_port, get, network_with_simulator, runtime

from monitor import simulator

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]

COMMANDS = re.findall(r"```sh\n(.*?)\n```", (ROOT / "docs/install.md").read_text(encoding="utf-8"), re.DOTALL)
KEY = simulator.shipped().accounts[0].api_key or ""
ELSEWHERE = {
    "cd deploy/compose && docker compose up --detach": "test_compose.py, without Grafana: its image cannot be had here",
    "cd deploy/compose && docker compose down": "test_compose.py, with --volumes",
    "cd deploy/compose && docker compose down --volumes": "test_compose.py",
    'cd deploy/compose && cp .env.example .env && "${EDITOR:-vi}" .env': "an editor; what a key in .env does is in test_compose.py",
    "kubectl apply --namespace campaigns -k deploy/kubernetes/base": "no cluster; rendered, validated and played in test_kubernetes.py",
    "kubectl apply --namespace campaigns -k deploy/kubernetes/prometheus-operator": "no cluster; rendered and validated in test_kubernetes.py",
}


def the(start: str, *, has: str = "") -> str:
    """The one command of the page that begins so."""
    [found] = [one for one in COMMANDS if one.startswith(start) and has in one]
    return found


def typed(command: str, *, folder: Path = ROOT, **environment: str) -> str:
    """What it prints, typed into a shell."""
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """With the simulator in it, at http://simulator:10043."""
    build = the("docker build").replace("docker build", f"{runtime()} build")
    typed(build + (" --format docker" if runtime().endswith("podman") else ""))
    with network_with_simulator() as name:
        yield name


def test_a_container_is_run_asked_and_backed_up(network):
    name, port = f"ubm-{uuid.uuid4().hex[:8]}", free_port()

    def of_this(command: str) -> str:
        return (
            command.replace("docker ", f"{runtime()} ", 1)
            .replace(
                "--name ultravox-batch-monitor", f"--name {name} --network {network} --env ULTRAVOX_BASE_URL"
            )
            .replace("--volume ultravox-batch-monitor:", f"--volume {name}:")
            .replace("127.0.0.1:10042:", f"127.0.0.1:{port}:")
            .replace("exec ultravox-batch-monitor", f"exec {name}")
        )

    try:
        typed(
            of_this(the("docker run --detach")),
            ULTRAVOX_API_KEY=KEY,
            ULTRAVOX_BASE_URL="http://simulator:10043",
        )
        eventually("ready", lambda: get(f"http://127.0.0.1:{port}/-/ready")[0] == 200, within=30)
        status = of_this(the("docker exec", has="status"))
        eventually("batches", lambda: "spring" in typed(status) or "renewals" in typed(status), within=30)
        typed(of_this(the("docker exec", has="VACUUM")))
        tables = "import sqlite3; print(sqlite3.connect('backup.db').execute('select count(*) from sqlite_master').fetchone()[0])"
        assert int(docker("exec", name, "python", "-c", tables)) > 3
    finally:
        docker("rm", "-f", "-v", name, check=False)
        docker("volume", "rm", "-f", name, check=False)


def test_a_configuration_is_checked_by_the_image(network, tmp_path):
    (tmp_path / "monitor").mkdir()
    text = (ROOT / "deploy/compose/monitor/config.account.yaml").read_text(encoding="utf-8")
    (tmp_path / "monitor/config.yaml").write_text(text)
    command = the("docker run --rm").replace("docker ", f"{runtime()} ", 1)
    assert "no mistakes" in typed(command.replace("./monitor", f"{tmp_path}/monitor"), ULTRAVOX_API_KEY=KEY)


def test_the_secret_is_one_that_the_pod_finds():
    command = the("kubectl create secret") + " --dry-run=client --output yaml"
    made = yaml.safe_load(typed(command, ULTRAVOX_API_KEY=KEY))
    assert (made["metadata"]["name"], list(made["data"])) == ("ultravox-batch-monitor", ["api-key"])


def test_what_the_unit_wants_is_installed_where_it_looks(tmp_path):
    def here(command: str) -> str:
        return re.sub(r"(?<![\w.])/(opt|etc)/", rf"{tmp_path}/\1/", command)

    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    unit, _, start = the("install -m 0644 deploy/systemd").partition(" && ")
    for command in (the("python3 -m venv /opt"), the("install -D"), the("printf"), unit):
        typed(here(command), ULTRAVOX_API_KEY=KEY)
    settings = (tmp_path / "etc/systemd/system/ultravox-batch-monitor.service").read_text(encoding="utf-8")
    [program] = re.findall(r"^ExecStart=(\S+)", settings, re.MULTILINE)
    [credential] = re.findall(r"^LoadCredential=\w+:(\S+)", settings, re.MULTILINE)

    assert "Watches" in typed(f"{here(program)} --help")
    assert (tmp_path / credential.lstrip("/")).read_text() == KEY
    assert stat.S_IMODE((tmp_path / credential.lstrip("/")).stat().st_mode) == 0o600
    # No systemd runs here.
    assert start == "systemctl daemon-reload && systemctl enable --now ultravox-batch-monitor"


def test_pip_is_enough(tmp_path):
    def here(command: str) -> str:
        return command.replace(".batch-monitor/", f"{tmp_path}/").replace(
            "venv .batch-monitor", f"venv {tmp_path}"
        )

    typed(here(the("python3 -m venv .batch")))
    port = free_port()
    running = subprocess.Popen(
        [
            "bash",
            "-c",
            "exec "
            + here(the(".batch-monitor/bin/batch-monitor run"))
            + f" --web.listen-address 127.0.0.1:{port}",
        ],
        cwd=tmp_path,
        env=os.environ | {"ULTRAVOX_API_KEY": KEY, "ULTRAVOX_BASE_URL": f"http://127.0.0.1:{free_port()}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually("it answers", lambda: get(f"http://127.0.0.1:{port}/-/healthy")[0] == 200, within=30)
    finally:
        running.terminate()
        assert running.wait(15) == 0


def test_every_command_of_the_page_is_tried_here_or_elsewhere():
    named = set(re.findall(r'the\("([^"]+)"', Path(__file__).read_text(encoding="utf-8")))
    here = {one for one in COMMANDS if any(one.startswith(start) for start in named)}
    assert here | ELSEWHERE.keys() == set(COMMANDS)
    assert not here & ELSEWHERE.keys()

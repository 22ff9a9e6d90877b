"""The image, built and run as its users run it: no root, no capabilities, nothing writable but its volume."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest
from containers import (
    IMAGE,
    command,
    docker,
    eventually,
    free_port,
    get,
    inspected,
    network_with_simulator,
    runtime,
)

from monitor import __version__, simulator

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]

STATE = "/var/lib/ultravox-batch-monitor"
HARDENED = (
    *("--read-only", "--cap-drop=ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp:size=16m"),
)
HANGING_SCHEDULER = """
import time
from apscheduler.schedulers.asyncio import AsyncIOScheduler

began, wakeup = time.monotonic(), AsyncIOScheduler.wakeup

def hang(self):  # after five seconds no job is ever run again; the loop goes on
    if time.monotonic() - began < 5:
        wakeup(self)

AsyncIOScheduler.wakeup = hang
"""


@pytest.fixture(scope="module", autouse=True)
def image() -> str:
    command("make", "image", f"DOCKER={runtime()}", timeout=280)
    return IMAGE


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """A network of its own with the simulator in it, at http://simulator:10043."""
    with network_with_simulator(*HARDENED) as name:
        yield name


@pytest.mark.timeout(600)
def test_built_again_it_has_the_same_layers():
    """With the times taken out. Docker's format has a number in its head that is drawn anew each time."""
    if not runtime().endswith("podman"):
        return  # classic docker cannot take out the times; BuildKit can, by another name (docs/supply.md)
    layers = []
    for number in range(2):
        name = f"{IMAGE}-again-{number}"
        options = ("--quiet", "--no-cache", "--pull=never", "--format", "docker", "--timestamp", "0")
        docker("build", *options, "-t", name, ".", timeout=280)
        layers.append(inspected(name)["RootFS"]["Layers"])
        docker("rmi", "--force", name)
    assert layers[0] == layers[1]


def test_hadolint_has_nothing_to_say():
    assert command("hadolint", "Dockerfile") == ""


class Monitor:
    """A container of the daemon, zero-config, watching the simulator's first account."""

    def __init__(self, network: str, volume: str, *options: str) -> None:
        self.name = f"ubm-{uuid.uuid4().hex[:8]}"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        key = simulator.shipped().accounts[0].api_key
        docker(
            *("run", "-d", "--name", self.name, "--network", network, *HARDENED),
            *("-p", f"127.0.0.1:{port}:10042", "-v", f"{volume}:{STATE}"),
            *("-e", f"ULTRAVOX_API_KEY={key}", "-e", "ULTRAVOX_BASE_URL=http://simulator:10043"),
            *options,
            IMAGE,
        )
        try:
            eventually("ready", lambda: get(f"{self.url}/-/ready")[0] == 200, within=30)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{docker('logs', self.name)}") from None

    def exec(self, *arguments: str) -> str:
        return docker("exec", self.name, *arguments)

    def health(self) -> int:
        """The exit code of the image's own health check, run once in the container."""
        test = inspected(self.name)["Config"]["Healthcheck"]["Test"]
        assert test[0] == "CMD"
        script = "import subprocess, sys; print(subprocess.run(sys.argv[1:], check=False).returncode)"
        return int(self.exec("python", "-c", script, *test[1:]).split()[-1])

    def stop(self) -> float:
        """SIGTERM and, after ten seconds, SIGKILL; the seconds it took. The exit code must be 0."""
        began = time.monotonic()
        docker("stop", "-t", "10", self.name)
        took = time.monotonic() - began
        assert inspected(self.name)["State"]["ExitCode"] == 0
        return took

    def remove(self) -> None:
        docker("rm", "-f", self.name, check=False)


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"ubm-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "-f", name, check=False)


@pytest.fixture
def monitors(network, volume):
    made: list[Monitor] = []

    def run(*options: str) -> Monitor:
        made.append(Monitor(network, volume, *options))
        return made[-1]

    yield run
    for one in made:
        one.remove()


def test_what_the_image_says_of_itself(figures):
    found = inspected(IMAGE)
    layers = docker("history", "--format", "{{.Size}}\t{{.CreatedBy}}", "--no-trunc", IMAGE).splitlines()
    sizes = [layer.split("\t") for layer in layers if not layer.startswith("0 B")]
    figures += [f"image: {found['Size'] / 1e6:.0f} MB"] + [f"  {size}: {by[:90]}" for size, by in sizes]
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"] == command("git", "rev-parse", "HEAD").strip()
    assert {"title", "description", "licenses"} <= {name.rpartition(".")[2] for name in labels}
    assert found["Config"]["User"] == "10042:10042"
    assert found["Config"]["StopSignal"] == "SIGTERM"
    assert list(found["Config"]["Volumes"]) == [STATE]
    assert list(found["Config"]["ExposedPorts"]) == ["10042/tcp"]


def test_nothing_of_the_build_is_left_in_it():
    listed = docker(
        "run", "--rm", "--entrypoint", "sh", IMAGE, "-c", "ls /src /build /wheel 2>&1; ls /opt/*/bin"
    )
    assert "hatchling" not in listed
    assert not {"pip", "pip3", "tests"} & set(listed.split())


def test_a_hardened_container_is_scraped_and_healthy_keeps_its_state_and_stops_in_time(monitors):
    monitor = monitors()
    _, exposed = get(f"{monitor.url}/metrics")
    assert exposed.count("\nultravox_batch_info{") > 3
    assert 'ultravox_account_up{account="default"} 1' in exposed
    assert monitor.health() == 0
    status = dict(
        line.split(":\t") for line in monitor.exec("cat", "/proc/1/status").splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == ["10042"] * 4
    assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert "Read-only file system" in docker(
        "exec", monitor.name, "sh", "-c", "touch /opt/x /usr/x /home/x 2>&1 || true"
    )
    batch_id = json.loads(get(f"{monitor.url}/api/v1/batches")[1])["data"]["batches"][0]["batch_id"]
    monitor.exec("batch-monitor", "mute", batch_id, "--for", "2h")
    assert monitor.stop() < 10

    docker("start", monitor.name)
    eventually("up again", lambda: get(f"{monitor.url}/-/ready")[0] == 200, within=30)
    assert batch_id in get(f"{monitor.url}/api/v1/mutes")[1]
    monitor.stop()
    monitor.remove()
    assert batch_id in get(f"{monitors().url}/api/v1/mutes")[1]  # another container, as after an upgrade


def test_it_is_unhealthy_when_the_scheduler_hangs(monitors, tmp_path):
    tmp_path.chmod(0o755)
    hang = tmp_path / "sitecustomize.py"
    hang.write_text(HANGING_SCHEDULER)
    hang.chmod(0o644)
    monitor = monitors("-v", f"{hang}:/hang/sitecustomize.py:ro", "-e", "PYTHONPATH=/hang")
    assert monitor.health() == 0
    eventually("unhealthy", lambda: get(f"{monitor.url}/-/healthy")[0] == 503, within=60)
    assert monitor.health() == 1
    assert get(f"{monitor.url}/metrics")[0] == 200  # it is the scheduler that hangs, not the loop


def test_it_is_unhealthy_when_the_whole_process_hangs(monitors):
    monitor = monitors()
    docker("kill", "--signal", "STOP", monitor.name)
    try:
        assert monitor.health() == 1
    finally:
        docker("kill", "--signal", "CONT", monitor.name)
    assert monitor.health() == 0


def test_it_starts_with_nothing_but_a_key():
    name = f"ubm-{uuid.uuid4().hex[:8]}"
    docker(
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        "-e",
        "ULTRAVOX_API_KEY=Zk3hQ9aB.0123456789abcdef",
        IMAGE,
    )
    try:
        eventually(
            "healthy, though nothing can be reached",
            lambda: docker("exec", name, "batch-monitor", "healthcheck", check=False).strip() == "healthy",
            within=30,
        )
        docker("stop", "-t", "10", name)
        assert inspected(name)["State"]["ExitCode"] == 0
        assert "Zk3hQ9aB" not in docker("logs", name)
    finally:
        docker("rm", "-f", name, check=False)


def test_without_a_key_it_says_what_to_do():
    done = subprocess.run(
        [runtime(), "run", "--rm", IMAGE], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "ULTRAVOX_API_KEY=" in done.stderr

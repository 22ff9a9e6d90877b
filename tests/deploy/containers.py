"""What the tests of deployments share: podman or docker, HTTP, and waiting."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
IMAGE = "ultravox-batch-monitor"


def runtime() -> str:
    """The program that runs containers; DOCKER names another one."""
    found = os.environ.get("DOCKER") or shutil.which("docker") or shutil.which("podman")
    assert found, "neither docker nor podman is on PATH"
    return found


def command(*arguments: str, check: bool = True, timeout: float = 120, **options: Any) -> str:
    """Run a program; its stdout. Fails with all it said when it fails."""
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, timeout=timeout, **{"cwd": ROOT} | options
    )
    assert not check or done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def docker(*arguments: str, check: bool = True, timeout: float = 120) -> str:
    """Run a command of the container runtime; its stdout."""
    return command(runtime(), *arguments, check=check, timeout=timeout)


def inspected(name: str) -> dict[str, Any]:
    """All that the runtime knows of a container or an image."""
    [found] = json.loads(docker("inspect", name))
    return dict(found)


def get(url: str) -> tuple[int, str]:
    """Status and body; (0, reason) while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def eventually(what: str, look: Callable[[], Any], *, within: float) -> Any:
    """The first true result of `look`; fails by the name of what did not come."""
    until = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < until, f"not within {within} s: {what}"
        time.sleep(0.2)
    return found


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def compose() -> list[str]:
    """The command that runs Compose files."""
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


@contextmanager
def network_with_simulator(*options: str) -> Iterator[str]:
    """The name of a network of its own, with the simulator in it at http://simulator:10043."""
    name = f"ubm-{uuid.uuid4().hex[:8]}"
    docker("network", "create", name)
    where = ("--network", name, "--network-alias", "simulator")
    docker(
        "run",
        "-d",
        "--rm",
        "--name",
        f"{name}-simulator",
        *where,
        *options,
        IMAGE,
        "simulate",
        "--host",
        "0.0.0.0",
    )
    try:
        yield name
    finally:
        docker("rm", "-f", f"{name}-simulator", check=False)
        docker("network", "rm", name, check=False)

"""A pretend Ultravox and a real daemon that watches it, as processes of their own: what the browser looks at."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from monitor import simulator

CHARACTERS = "<img src=x onerror=alert(1)> & \"quoted\" 'name'"
"""A name that would be an element if somebody forgot to escape it."""

STORY = """
seed: 3
accounts:
  - name: main
    allowed_concurrent_calls: 4000
    agents:
      - name: renewals
        batches:
          - {name: spring-renewals, created: -1h, calls: 20000, window: {end: 8h}, pace: 3/s, failing: {share: 0.05, error: "SIP 486 Busy Here"}}
          - {name: price-change, created: -1h, calls: 500, window: {end: 5h}, pace: 150/h, paused: true}
          - {name: evening-survey, created: -10m, calls: 200, window: {start: 2h, end: 6h}, pace: 90/h}
          - {name: loyalty-thanks, created: -2h, calls: 60, pace: 60/h}
          - {name: last-minute-offer, created: -30m, calls: 90000, window: {end: 1h}, pace: 3/s}
          - {name: delivery-slots, created: -2h, calls: 400, window: {start: -2h, end: -1m}, pace: 60/h, ends_late: 3h}
          - {name: odd, created: -1h, calls: 20000, pace: 2/s}
  - name: agency
    agents:
      - name: outreach
        batches:
          - {name: city-north, created: -1h, calls: 300, window: {end: 6h}, pace: 60/h, script: [{at: 0s, do: stall}]}
          - {name: flaky-answers, created: -10m, calls: 9000, pace: 4/s}
faults:
  - {endpoint: any, batch: flaky-answers, from: 4s, kind: wrong_types}
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def eventually(what: str, look: Callable[[], Any], *, within: float = 60.0) -> Any:
    """The first true result of `look`; fails by the name of what did not come."""
    until = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < until, f"not within {within} s: {what}"
        time.sleep(0.05)
    return found


class Site:
    """The processes; `url` is where the page is."""

    def __init__(self, folder: Path, story: str, *, receiver: str | None = None, **settings: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.scenario = simulator.load(story)
        self.ids = {
            batch.name: str(batch.batch_id)
            for account in self.scenario.accounts
            for agent in account.agents
            for batch in agent.batches
        }
        self._story, self._receiver, self._settings = story, receiver, settings
        self._pretend: subprocess.Popen[str] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.folder / "scenario.yaml").write_text(self._story)
        command = ("simulate", "--scenario", "scenario.yaml", "--port", "0", "--log.level", "error")
        self._pretend = subprocess.Popen(
            [sys.executable, "-m", "monitor", *command], cwd=self.folder, stdout=subprocess.PIPE, text=True
        )
        found = re.search(r"http://\S+", self._pretend.stdout.readline())
        accounts = [
            {
                "name": account.name,
                "api_key": f"${{KEY_{account.name.upper()}}}",
                "base_url": found[0],
                "max_requests_per_second": 100,
                "discover": {"interval": "2s"},
                "batches": [
                    {
                        "agent_id": str(agent.agent_id),
                        "batch_id": str(batch.batch_id),
                        "name": CHARACTERS if batch.name == "odd" else batch.name,
                    }
                    for agent in account.agents
                    for batch in agent.batches
                    if len(self.ids) < 100
                ],
            }
            for account in self.scenario.accounts
        ]
        document = {
            "accounts": accounts,
            "poll": {"interval": "1s", "timeout": "2s", "outcomes_interval": "2s", "account_interval": "2s"},
            "alerts": {"stalled": {"after": "3s"}, "window_at_risk": {"for": "1s"}, "overdue": {"for": "1s"}},
            "storage": {"path": str(self.folder / "monitor.db")},
            "web": {"listen_address": f"127.0.0.1:{self.port}"},
        } | self._settings
        if self._receiver is not None:
            document["receivers"] = [{"name": "crm", "webhook": {"url": self._receiver}, "group_wait": "1s"}]
        (self.folder / "config.yaml").write_text(yaml.safe_dump(document))
        self.start_daemon()

    def start_daemon(self) -> None:
        keys = {f"KEY_{one.name.upper()}": one.api_key or "" for one in self.scenario.accounts}
        with (self.folder / "daemon.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "monitor", "run", "--config.file", "config.yaml"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=os.environ | keys,
            )
        eventually("the daemon is ready", lambda: self.answers("-/ready"))

    def kill_daemon(self) -> None:
        self._daemon.send_signal(signal.SIGKILL)
        self._daemon.wait(20)

    def suspend_daemon(self) -> None:
        self._daemon.send_signal(signal.SIGSTOP)

    def resume_daemon(self) -> None:
        self._daemon.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for process in (self._daemon, self._pretend):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(20)
        if self._pretend is not None:
            self._pretend.stdout.close()

    def answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

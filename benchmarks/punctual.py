"""Whether everybody is looked at in time while some requests hang, and how soon a change is told.

Lateness is seen from the API: how much longer than an interval it is from one question about a batch to the next.
A request that hangs counts as a question; what a hanging page keeps from being asked does not.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from benchmarks.api import batch_id
from benchmarks.polls import FOUND, SELDOM, SINGLE, late
from benchmarks.processes import Setting, Size, watching
from benchmarks.report import Row, limit
from monitor.clock import utc_now

HANG_EVERY = 20
"""One of so many polls is never answered: 5 %. None that would show a batch that was paused: it could not be told."""

CHANGES = 20
"""So many batches are paused, one after the other, spread over the interval. None of the pages that show them hangs."""


def punctual(*, quick: bool) -> list[Row]:
    """On pages, by single requests, and on pages of which none hangs; quick: on pages alone."""
    pages = Setting(Size(2, 1, 250) if quick else FOUND, **_settings(quick=quick))
    single = Setting(SINGLE, single=True, **_settings(quick=quick))
    rows = _measured(pages, "pages", HANG_EVERY, 3 if quick else CHANGES)
    if not quick:
        rows += _measured(single, "single requests", HANG_EVERY, CHANGES) + _measured(
            pages, "pages", 0, CHANGES
        )
    return rows


def _settings(*, quick: bool) -> Mapping[str, Any]:
    seconds = 2 if quick else 30
    return {
        "interval": f"{seconds}s",
        "timeout": "700ms" if quick else "10s",
        "outcomes_interval": SELDOM,
        "alerts": {"paused_too_long": {"for": "0s"}},
    }


def _measured(setting: Setting, how: str, hang_every: int, changes: int) -> list[Row]:
    seconds = float(setting.interval.removesuffix("s"))
    hang = f"{100 / hang_every:g} % hang" if hang_every else "none hangs"
    subject = f"on time: {setting.size.count:,} batches each {setting.interval}, {how}, {hang}"
    with Inbox() as inbox:
        setting = replace(setting, webhook=inbox.url)
        with watching(setting, "--hang-every", str(hang_every)) as scene:
            time.sleep(1.5 * seconds)
            scene.api.ask("/bench?reset")
            changed = {}
            for turn in range(changes):
                number = turn * setting.size.count // changes
                changed[batch_id(number)] = scene.api.ask(f"/bench?pause={number}")["paused_at"]
                time.sleep(1.03 * seconds / changes)
            time.sleep(2 * seconds + 5)
            told = scene.api.ask("/bench")
            end = utc_now().timestamp()
    delays = sorted(inbox.arrived.get(one, end) - at for one, at in changed.items())
    return [
        limit(subject, "lateness of polls, 99th percentile", late(told["gaps"], seconds, 0.99), "s", 1.0),
        Row(subject, "lateness of polls, 90th percentile", late(told["gaps"], seconds, 0.9), "s"),
        Row(subject, "requests that hung", told["counts"].get("hung", 0), ""),
        limit(subject, "from the change to its message, longest", delays[-1], "s", seconds + 2),
        Row(subject, "from the change to its message, median", delays[len(delays) // 2], "s"),
        Row(subject, "messages that had not come in the end", len(changed.keys() - inbox.arrived), ""),
    ]


class Inbox:
    """A receiver of webhooks that notes when it first hears of a batch, by its id: Unix seconds."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        arrived = self.arrived

        class Hook(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                at = utc_now().timestamp()
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    arrived.setdefault(alert["labels"].get("batch_id", ""), at)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

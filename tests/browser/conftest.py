"""A real Chromium, and pages that are watched: whatever a test does, no error in the console, no request elsewhere."""

from __future__ import annotations

import importlib.util
import json
import shutil
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pretend_site import STORY, Site, eventually

# `make test` has no browser's tools. Asked for the tests marked `browser` without them, pytest finds none and fails.
collect_ignore = [] if importlib.util.find_spec("playwright") else ["test_browser.py"]

AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"

_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import (
        sync_playwright,
    )

    found = shutil.which("chromium")
    assert found, "chromium is not on PATH: install Debian's package"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(_QUIET))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """`visit(url, width=…, …)` opens a page. At the end nothing may have gone wrong in it, and nothing elsewhere."""
    contexts, wrong, expected = [], [], []

    def open_page(url, *, width=1280, height=900, may_fail=(), **options):
        options = {"timezone_id": "UTC", "locale": "en-GB"} | options
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        expected.extend(may_fail)
        page = context.new_page()
        page.on("console", lambda said: said.type in {"error", "warning"} and wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        origin = "/".join(url.split("/")[:3])
        page.on(
            "request",
            lambda asked: asked.url.startswith((f"{origin}/", "data:")) or wrong.append(f"asked {asked.url}"),
        )
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in wrong if not any(part in text for part in expected)] == []


@pytest.fixture
def barriers():
    """`barriers(page)`: what keeps people from using it, as axe-core finds it, that is serious or worse."""
    assert AXE.exists(), f"{AXE} is missing: npm ci --prefix tests/browser"

    def found(page):
        page.evaluate(AXE.read_text(encoding="utf-8"))
        rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        result = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", rules)
        assert len(result["passes"]) > 15  # it did look
        return [
            (one["id"], one["impact"], [node["target"] for node in one["nodes"]])
            for one in result["violations"]
            if one["impact"] in {"serious", "critical", "moderate"}
        ]

    return found


@pytest.fixture(scope="session")
def receiver():
    """Takes every message; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def states(site):
    with urllib.request.urlopen(f"{site.url}api/v1/batches", timeout=10) as answer:
        data = json.load(answer)["data"]
    return {one["batch"]: one for one in data["batches"]}


@pytest.fixture(scope="session")
def site(tmp_path_factory, receiver):
    """Nine batches, one in each state that lasts; the same for all tests that do not break it."""
    made = Site(tmp_path_factory.mktemp("site"), STORY, receiver=receiver)
    made.start()

    def settled():
        now = states(made)
        return (
            now["city-north"]["state"] == "stalled"
            and now["last-minute-offer"]["at_risk"]
            and now["delivery-slots"]["alerts"]
            and now["flaky-answers"]["failing"]
            and now["spring-renewals"]["outcomes"]
        )

    try:
        eventually("every batch is in its state", settled)
        yield made
    finally:
        made.stop()

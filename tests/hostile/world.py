"""Everything around the daemon that gives secrets away, and everything that the daemon gives out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import yaml
from aiohttp import web
from pretend_api import serve

import monitor
from hostile.planted import CONFIGURED, ECHOED, TOLD, search
from monitor import simulator
from monitor.clock import utc_now
from monitor.simulator import Fault, FaultKind

STORY = f"""
accounts:
  - name: main
    api_key: {CONFIGURED["api_key"]}
    agents:
      - name: renewals
        batches:
          - {{name: stuck, calls: 1000, pace: 60/h, script: [{{at: 1s, do: stall}}]}}
          - {{name: failing, calls: 3, pace: 60/s, failing: {{share: 1.0, error: "SIP 486 to +{TOLD["phone"]}"}}}}
          - {{name: unmade, calls: 50, pace: 1/s, window: {{end: 3s}}}}
"""
ROUTES = (
    "/", "/?q=x&state=stalled", "/?state=nonsense", "/metrics", "/api/v1/batches", "/api/v1/alerts",
    "/api/v1/notifications", "/api/v1/mutes", "/api/v1/explain?batch_id={batch}", "/api/v1/explain?batch_id=zzz",
    "/batches/{batch}", "/batches/zzz", "/static/page.js", "/-/healthy", "/-/ready", "/nothing",
)  # fmt: skip
OPEN_METRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}
RECEIVERS = {  # what each may hear: its own address
    "hook": ("webhook_token", "webhook_user", "webhook_password", "webhook_query"),
    "api": ("alertmanager_password",),
    "chat": ("apprise_password", "apprise_token"),
    "beat": ("heartbeat_token",),
}


class Leaky(simulator.Simulator):
    """A pretend Ultravox whose answers, good or bad, are full of secrets."""

    def _json(self, body, *, status=200, fault=None):
        return super()._json(_leaking(body), status=status, fault=fault)


def _leaking(body: Any) -> Any:
    if isinstance(body, dict):
        more = {
            "webhookSecret": TOLD["webhook_secret"],
            "webhookUrl": f"https://{TOLD['webhook_url']}.example/",
            "webhooks": [{"secrets": [TOLD["webhooks_secrets"]]}],
            "callTemplate": {"systemPrompt": TOLD["system_prompt"]},
            "metadata": {"customer": TOLD["metadata"], TOLD["metadata"]: 1},
            "templateContext": {"name": TOLD["template_context"]},
            "detail": f"{TOLD['echoed_error']} for +{TOLD['phone']}",
        }
        return {name: _leaking(value) for name, value in body.items()} | more
    return [_leaking(item) for item in body] if isinstance(body, list) else body


@dataclass
class Heard:
    """A request that a receiver was sent."""

    path: str
    headers: bytes
    body: bytes


@dataclass
class World:
    """One daemon. `outputs`: all that it gave out, by place, and what may be there."""

    folder: Path
    log_format: str = "logfmt"
    crashes: bool = True
    broken: str = ""
    heard: list[Heard] = field(default_factory=list)
    outputs: list[tuple[str, bytes, tuple[str, ...]]] = field(default_factory=list)
    ill: bool = False

    async def start(self) -> None:
        self.pretend = Leaky(simulator.load(STORY), clock=utc_now)
        await self.pretend.start()
        self.runner, self.receivers = await serve(self._receive)
        self._write()
        await self._spawn()

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        await self.runner.cleanup()
        await self.pretend.stop()

    # The daemon

    def _write(self) -> None:
        place = self.receivers.removeprefix("http://")
        user, password = CONFIGURED["webhook_user"], quote(CONFIGURED["webhook_password"], safe="")
        hook = f"http://{user}:{password}@{place}/hook/{CONFIGURED['webhook_token']}?auth={CONFIGURED['webhook_query']}"
        files = {
            "key": CONFIGURED["api_key"],
            "url": hook,
            "hmac": CONFIGURED["webhook_hmac"],
            "apprise": f"json://user:{CONFIGURED['apprise_password']}@{place}/chat/{CONFIGURED['apprise_token']}",
            "beat": f"http://{place}/beat/{CONFIGURED['heartbeat_token']}",
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)
        at_once = {"group_wait": "0s", "max_messages_per_minute": 6000}
        alert = {"repeat_every": "1s"}
        config = {
            "accounts": [{"name": "main", "api_key_file": "key", "base_url": self.pretend.base_url, "max_requests_per_second": 100, "discover": {"interval": "1s"}}],
            "poll": {"interval": "1s", "timeout": "500ms", "account_interval": "1s", "outcomes_interval": "1s"},
            "alerts": {"stalled": {"after": "1s", **alert}, "unreachable": {"for": "1s", **alert}, "account_unreachable": {"for": "1s", **alert}, "account_key_rejected": {"for": "1s", **alert}},
            "receivers": [
                {"name": "hook", "webhook": {"url_file": "url", "secret_file": "hmac", "timeout": "500ms"}, **at_once},
                {"name": "chat", "apprise": {"urls_file": "apprise"}, **at_once},
                {"name": "oncall", "alertmanager": {"urls": [f"http://me:{CONFIGURED['alertmanager_password']}@{place}"], "timeout": "500ms"}},
            ],
            "heartbeat": {"url_file": "beat", "every": "10s", "timeout": "500ms"},
            "storage": {"path": "monitor.db"},
            "web": {"listen_address": "127.0.0.1:0"},
        }  # fmt: skip
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))

    def _environ(self) -> dict[str, str]:
        quoted = [value for name, value in CONFIGURED.items() if name != "rotated_key"]
        plan = {"secrets": quoted, "crashes": self.crashes, "broken": self.broken}
        proxy = f"http://me:{CONFIGURED['proxy_password']}@127.0.0.1:9"
        own = {"HOSTILE": json.dumps(plan), "http_proxy": proxy, "no_proxy": "127.0.0.1", "NO_COLOR": "1"}
        return os.environ | own | {"PYTHONPATH": str(Path(monitor.__file__).parents[1])}

    async def _spawn(self) -> None:
        """With asyncio in its debug mode, which tells more, and every warning."""
        program = (sys.executable, "-X", "dev", str(Path(__file__).with_name("crashing.py")), "run")
        options = ("--config.file", "config.yaml", "--log.level", "debug", "--log.format", self.log_format)
        self.log = self.folder / f"daemon-{len(self.outputs)}.log"
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *program, *options, stdout=log, stderr=log, cwd=self.folder, env=self._environ()
            )
        await self.until(lambda: b"address=http" in self._log() or b'"address": "http' in self._log())
        text = self._log().decode()
        self.url = "http://" + text.partition("http://127.0.0.1:")[0][:0] + text[text.index("127.0.0.1:", text.index("address")) :].split()[0].strip('",}')  # fmt: skip

    def _log(self) -> bytes:
        return self.log.read_bytes()

    async def until(self, look, seconds=30.0):
        async with asyncio.timeout(seconds):
            while not look():  # noqa: ASYNC110 - it is looked at from outside
                await asyncio.sleep(0.02)

    async def end(self) -> None:
        """As a service is ended; with crashes, the last one comes after that."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await self.process.wait()

    # Outputs

    def take(self, place: str, content: bytes, *allowed: str) -> None:
        self.outputs.append((place, content, allowed))

    async def look(self, when: str, routes: tuple[str, ...] = ROUTES) -> None:
        """Every route, as it answers now."""
        async with aiohttp.ClientSession() as session:
            for route in routes:
                for headers in ({}, OPEN_METRICS) if route == "/metrics" else ({},):
                    address = self.url + route.format(batch=self.batch)
                    with suppress(aiohttp.ClientError):
                        async with session.get(address, headers=headers) as answer:
                            head = repr(answer.headers).encode()
                            self.take(f"{route} {when}", head + await answer.read())

    @property
    def batch(self) -> str:
        """The beginning of the id of one that is watched."""
        return next(iter(self.pretend._worlds[CONFIGURED["api_key"]].campaigns))[:8]

    async def post(self, route: str, body: Any) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + route, json=body) as answer,
        ):
            self.take(f"POST {route}", await answer.read())

    async def command(self, *arguments: str, **environ: str) -> None:
        """What a command prints, and how it ends."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "monitor", *arguments, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, cwd=self.folder, env=self._environ() | environ,
        )  # fmt: skip
        printed, _ = await process.communicate()
        self.take(f"batch-monitor {' '.join(arguments[:2])}", printed)

    def collect(self) -> None:
        """The log, what `ps` shows, and everything that lies in the folder and was not put there."""
        if self.process.returncode is None:
            self.take("ps", Path(f"/proc/{self.process.pid}/cmdline").read_bytes())
        for path in self.folder.glob("*"):
            if path.name.startswith("monitor.db") or path.suffix == ".log":
                self.take(path.name, path.read_bytes())
        for one in self.heard:
            own = RECEIVERS.get(one.path.strip("/").split("/")[0], ())
            self.take(f"a body for {one.path[:5]}", one.body)
            self.take(f"headers for {one.path[:5]}", one.headers, *own)
        for one in self.pretend.requests:
            self.take("a request to the API", one.path.encode())

    def found(self) -> list[str]:
        return [
            one for place, content, allowed in self.outputs for one in search(place, content, allowed=allowed)
        ]

    # The others

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        head = json.dumps([request.path_qs, *map(list, request.headers.items())]).encode()
        self.heard.append(Heard(request.path, head, body := await request.read()))
        if not self.ill:
            return web.json_response({})
        number = len(self.heard) % 5
        if number == 0 and request.transport is not None:
            request.transport.abort()
        text = f"{ECHOED['echo']} {request.url} {body[:500]!r}"
        headers = {"X-Echo": quote(text), "Location": str(request.url), "Retry-After": "0"}
        return web.Response(status=(500, 302, 400, 503, 429)[number], headers=headers, text=text)

    async def trouble(self, kind: FaultKind) -> None:
        """One of the simulator's faults, for as long as it takes until it was met a few times."""
        midway = {"midway": True} if kind is FaultKind.RESET else {}
        self.pretend.add_fault(Fault(kind=kind, **midway))
        await self.until(self._more(6))
        await self.look(f"during {kind.value}")
        self.pretend.clear_faults()

    def _more(self, count: int):
        loop, before = asyncio.get_running_loop(), len(self.pretend.requests)
        begun = loop.time()
        # An account that was told to wait asks nothing: two seconds are enough then.
        return lambda: len(self.pretend.requests) >= before + count or loop.time() > begun + 2

"""`batch-monitor` that crashes in odd places, each time with secrets in the error. Run as a program of its own.

The environment variable HOSTILE is JSON: `secrets`, what the errors quote; `crashes`, whether there are any; `broken`,
what of the redaction is taken out, for the tests of the test. Nothing in monitor/ knows of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import threading
import warnings
from datetime import timedelta
from urllib.parse import quote

from monitor import app, log, redaction, reload
from monitor.heartbeat import Heartbeat
from monitor.notify import alertmanager, channel, webhook
from monitor.store import file
from monitor.ultravox import Client, payload
from monitor.web import answers

PLAN = json.loads(os.environ["HOSTILE"])
SECRETS = PLAN["secrets"]
QUOTED = " | ".join([
    *SECRETS,
    *(quote(one, safe="") for one in SECRETS),
    *(base64.b64encode(f"user:{one}".encode()).decode() for one in SECRETS),
    *map(repr, SECRETS),
])  # fmt: skip
"""Every secret in every form that something might quote it in."""


class Sulks:
    """What cannot be put into words."""

    def __repr__(self) -> str:
        raise RuntimeError(QUOTED)


def now_and_then(holder, name, *, every, first=2):
    """Let this function of a module or a class crash at its `first` call, and at each `every`-th after it."""
    works, calls = getattr(holder, name), [0]

    def crash():
        calls[0] += 1
        if calls[0] >= first and (calls[0] - first) % every == 0:
            raise RuntimeError(f"{name} with {QUOTED}")

    def plainly(*args, **options):
        crash()
        return works(*args, **options)

    async def awaited(*args, **options):
        crash()
        return await works(*args, **options)

    setattr(holder, name, awaited if asyncio.iscoroutinefunction(works) else plainly)


def crash_in_odd_places() -> None:
    now_and_then(Client, "get_batch", every=7)
    now_and_then(Client, "get_outcomes", every=3)
    now_and_then(payload, "read", every=31, first=9)
    now_and_then(webhook, "render", every=4)
    now_and_then(alertmanager, "postable", every=5)
    now_and_then(Heartbeat, "_ping", every=3)
    now_and_then(answers, "alerts", every=4)
    now_and_then(file.StateFile, "write", every=13, first=7)
    run = app.App.run

    async def strewn(self):
        tasks = [asyncio.create_task(strew()), asyncio.create_task(fail())]
        await run(self)
        tasks[0].cancel()
        raise RuntimeError(f"at the very end, with {QUOTED}")

    app.App.run = strewn


async def fail() -> None:
    raise RuntimeError(f"a task with {QUOTED}")


async def strew() -> None:
    """What libraries do to a log."""
    library = logging.getLogger("some.library")
    loop = asyncio.get_running_loop()
    while True:
        for secret in SECRETS:
            library.debug("GET / headers=%r url=%s", {"X-API-Key": secret}, quote(secret, safe=""))
            library.info("%s%s", secret[:9], secret[9:])
            library.warning("%d", secret)
            library.error("%s", Sulks())
            loop.call_soon(int, secret)
        warnings.warn(QUOTED, ResourceWarning, stacklevel=1)
        threading.Thread(target=int, args=(QUOTED,), name=SECRETS[0]).start()
        loop.call_exception_handler({"message": QUOTED, "task": QUOTED})
        try:
            try:
                int(SECRETS[0])
            except ValueError as error:
                raise KeyError(SECRETS[1].encode()) from error
        except KeyError:
            library.exception("stumbled")
        Finalized()
        await asyncio.sleep(0.5)


class Finalized:
    """An error that nobody can catch."""

    def __del__(self):
        raise RuntimeError(QUOTED)


# What the tests of the test take out


def no_redaction() -> None:
    redaction.Redactor.redact = lambda _, text: text


def no_base64() -> None:
    redaction._in_base64 = lambda _: ()


def no_parts() -> None:
    redaction._parts = lambda secret: iter([secret])


def no_hooks() -> None:
    log._catch_crashes = lambda: None


def no_care_with_records() -> None:
    log.LineFormatter.format = lambda self, record: self._redactor.redact(self._line(record))


def answers_are_quoted() -> None:
    read = payload.read

    def quoting(model, body):
        try:
            return read(model, body)
        except payload.MalformedError as error:
            raise payload.MalformedError(f"{error}: {body!r}") from None

    payload.read = quoting


def addresses_are_quoted() -> None:
    failing = channel._status_error

    def quoting(wire, response):
        error = failing(wire, response)
        error.args = (f"{error} at {response.request_info.real_url}",)
        return error

    channel._status_error = quoting


if __name__ == "__main__":
    reload.FILE_CHECK = 0.2
    alertmanager.RESEND_EVERY = timedelta(seconds=1)
    if PLAN["broken"]:
        globals()[PLAN["broken"]]()
    if PLAN["crashes"]:
        crash_in_odd_places()
    from monitor.cli import main

    main()

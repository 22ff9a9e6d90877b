"""Log lines: readable, parseable, and without a secret in them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from monitor.log import LineFormatter
from monitor.redaction import REDACTED

SECRET = 'Zq3f8Kp2."quoted"0123456789'


def record(message="poll failed", *args, exc_info=None, **fields):
    made = logging.makeLogRecord(
        {"name": "monitor.poller", "levelname": "WARNING", "msg": message, "args": args, "exc_info": exc_info}
    )
    made.created = 1_763_900_000.25
    vars(made).update(fields)
    return made


def test_a_line_of_logfmt():
    line = LineFormatter(as_json=False).format(
        record("state is %s", "stalled", batch="spring renewals", polls=3)
    )
    assert line == (
        'ts=2025-11-23T12:13:20.250Z level=warning msg="state is stalled" logger=monitor.poller '
        'batch="spring renewals" polls=3'
    )


def test_a_line_of_json():
    line = LineFormatter(as_json=True).format(record(batch="spring", error=None))
    assert json.loads(line) == {
        "ts": "2025-11-23T12:13:20.250Z",
        "level": "warning",
        "msg": "poll failed",
        "logger": "monitor.poller",
        "batch": "spring",
        "error": None,
    }


@pytest.mark.parametrize("value", ["two\nlines", 'quo"te', "a=b", "", "esc\x1b[31m"])
def test_a_value_cannot_break_out_of_its_field(value):
    line = LineFormatter(as_json=False).format(record(value=value))
    assert "\n" not in line
    assert "\x1b" not in line
    assert line.count(" value=") == 1
    assert line.split(" value=")[1].startswith('"')


@pytest.mark.parametrize("as_json", [True, False])
def test_a_secret_is_hidden_wherever_it_stands(as_json):
    formatter = LineFormatter(as_json=as_json)
    formatter.hide([SECRET])
    try:
        raise ValueError(f"no good: {SECRET}")
    except ValueError:
        line = formatter.format(record(f"key {SECRET}", exc_info=sys.exc_info(), url=f"https://x/{SECRET}"))
    assert line.count(REDACTED) == 3
    assert "Zq3f8Kp2" not in line
    assert "quoted" not in line


def test_what_was_hidden_once_stays_hidden_and_the_longest_goes_first():
    formatter = LineFormatter(as_json=False)
    formatter.hide(["hidden-once"])
    formatter.hide(["hidden-once-more"])
    assert "once" not in formatter.format(record(a="hidden-once", b="hidden-once-more"))


def test_an_empty_or_tiny_secret_does_not_blank_the_log():
    formatter = LineFormatter(as_json=False)
    formatter.hide(["", "a"])
    assert REDACTED not in formatter.format(record())


class Sulks:
    """What cannot be put into words, and quotes a secret while it says so."""

    def __str__(self):
        raise RuntimeError(SECRET)

    __repr__ = __str__


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("args", [(SECRET,), (Sulks(),)], ids=["a wrong argument", "an argument that sulks"])
def test_a_record_that_cannot_be_written_is_a_line_and_shows_nothing(as_json, args, capsys):
    """Python's own way is to print the arguments as they are."""
    made = record("%d calls", *args)
    line = LineFormatter(as_json=as_json).format(made)
    assert "this line cannot be written" in line
    assert "Zq3f8Kp2" not in line
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("as_json", [True, False])
def test_a_secret_that_is_split_over_arguments_and_fields_is_found(as_json):
    formatter = LineFormatter(as_json=as_json)
    formatter.hide(["Zk3hQ9aB.0123456789abcdef0123456789abcdef"])
    line = formatter.format(
        record("%s.%s%s", "Zk3hQ9aB", "0123456789abcdef", "0123456789abcdef", half="0123456789abcdef" * 2)
    )
    assert "0123456789abcdef" not in line
    assert line.count(REDACTED) == 2


CRASHES = {
    "the main thread": "raise RuntimeError(secret)",
    "another thread": "import threading; threading.Thread(target=int, args=(secret,)).start()",
    "a task": "import asyncio\nasync def main():\n asyncio.create_task(fail())\n await asyncio.sleep(0)\n"
    "async def fail(): raise RuntimeError(secret)\nasyncio.run(main())",
    "a callback": "import asyncio\nasync def main():\n asyncio.get_running_loop().call_soon(int, secret)\n"
    " await asyncio.sleep(0)\nasyncio.run(main())",
    "a finalizer": "class A:\n def __del__(self): raise RuntimeError(secret)\nA()",
    "a warning": "import warnings; warnings.warn(secret)",
    "a log line that is wrong": "logging.getLogger('x').warning('%d', secret)",
    "an error in an error": "try: int(secret)\nexcept ValueError as e: raise KeyError(secret.encode()) from e",
    "a library at debug": "logging.getLogger('x').debug('headers: %r', {'X-API-Key': secret})",
}


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES)
def test_whatever_crashes_is_a_log_line_without_the_secret(crash, log_format):
    head = (
        "import logging\nfrom monitor import log\n"
        f"log.set_up('debug', {log_format!r}).hide([secret := {SECRET!r}])\n"
    )
    ran = subprocess.run([sys.executable, "-c", head + crash], capture_output=True, text=True, check=False)
    assert REDACTED in ran.stderr or "cannot be written" in ran.stderr
    assert "Zq3f8Kp2" not in ran.stderr.replace(f"secret := {SECRET!r}", "")
    assert all(line.startswith(("ts=", "{")) for line in ran.stderr.splitlines())


def test_no_crash_leaves_a_core_file_behind():
    asked = (
        "import resource; resource.setrlimit = lambda what, limits: print(what == resource.RLIMIT_CORE, limits[0])\n"
        "from monitor import log; log.set_up('info', 'json')"
    )
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert ran.stdout == "True 0\n"


def test_a_proxy_s_password_is_hidden_from_the_start(monkeypatch, capsys):
    monkeypatch.setenv("https_proxy", "me:correct-horse@proxy.example:3128")
    from monitor import proxy
    from monitor.redaction import Redactor

    redactor = Redactor()
    redactor.hide(proxy.secrets())
    assert redactor.redact("CONNECT by correct-horse") == f"CONNECT by {REDACTED}"

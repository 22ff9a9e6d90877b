"""Log lines: readable, parseable, and without a secret in them."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from monitor.log import REDACTED, LineFormatter

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

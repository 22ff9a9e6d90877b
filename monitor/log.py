"""How log lines look, and that no secret is in one: logfmt or JSON on standard error.

The redaction works on the finished line, so that nothing that ends up in a log gets past it:
arguments, fields, tracebacks, other libraries' messages.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MIN_SECRET = 4
"""Shorter "secrets" would blank out half of every line; none that guards anything is that short."""

REDACTED = "<redacted>"


class LineFormatter(logging.Formatter):
    """One line a record: `ts=… level=… msg=… field=value`, or the same as a JSON object."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._secrets: tuple[str, ...] = ()

    def hide(self, secrets: Iterable[str]) -> None:
        """Replace these strings in every line from now on, besides those hidden before."""
        known = {secret for secret in (*secrets, *self._secrets) if len(secret) >= _MIN_SECRET}
        known |= {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in known}  # as it stands in quotes
        # The longest first: a secret that contains another must not leave its rest behind.
        self._secrets = tuple(sorted(known, key=len, reverse=True))

    def format(self, record: logging.LogRecord) -> str:
        """The finished line, secrets replaced."""
        at = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "logger": record.name,
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        line = json.dumps(fields, default=str, ensure_ascii=False) if self._as_json else _logfmt(fields)
        for secret in self._secrets:
            line = line.replace(secret, REDACTED)
        return line


def _logfmt(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={_logfmt_value(value)}" for name, value in fields.items())


def _logfmt_value(value: object) -> str:
    text = "" if value is None else str(value)
    if text and not any(char in ' "=\\' or not char.isprintable() for char in text):
        return text
    return json.dumps(text, ensure_ascii=False)


def set_up(level: str, log_format: str) -> LineFormatter:
    """Log to standard error from now on. Returns the formatter, to tell it what to hide."""
    formatter = LineFormatter(as_json=log_format == "json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Scheduling writes two INFO lines a job, which costs more than the job; its warnings we count ourselves.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    return formatter

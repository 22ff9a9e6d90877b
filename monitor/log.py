"""How log lines look, and that no secret is in one: logfmt or JSON on standard error.

The redaction works on the finished line, so that nothing that ends up in a log gets past it: arguments,
fields, tracebacks, other libraries' messages. What Python would print by itself becomes a line, too: the
traceback of a crash, in whichever thread; a warning; a record that cannot be put into words.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from monitor import proxy
from monitor.redaction import Redactor

logger = logging.getLogger(__name__)

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """One line a record: `ts=… level=… msg=… field=value`, or the same as a JSON object."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._redactor = Redactor()

    def hide(self, secrets: Iterable[str]) -> None:
        """Replace these strings, in whatever form, in every line from now on, besides those hidden before."""
        self._redactor.hide(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """The finished line, secrets replaced. Never raises: what logging prints of that shows the arguments."""
        try:
            line = self._line(record)
        except Exception as error:  # noqa: BLE001  arguments may have any class, and that any mistake
            where = f"{record.pathname}:{record.lineno}: {type(error).__name__}"
            line = self._line(logging.makeLogRecord({
                "name": record.name, "levelname": record.levelname, "created": record.created,
                "msg": "this line cannot be written", "where": where,
            }))  # fmt: skip
        return self._redactor.redact(line)

    def _line(self, record: logging.LogRecord) -> str:
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
        return json.dumps(fields, default=str, ensure_ascii=False) if self._as_json else _logfmt(fields)


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
    logging.captureWarnings(capture=True)
    formatter.hide(proxy.secrets())
    _catch_crashes()
    return formatter


def _catch_crashes() -> None:
    """What nobody has caught is logged, where Python would print it. asyncio logs by itself.

    And no crash leaves the memory behind, in which the secrets are, as a core file.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    def crashed(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error or kind(), trace)
            return
        logger.critical("crashed", exc_info=(kind, error, trace))

    def thread_crashed(hook: threading.ExceptHookArgs) -> None:
        if hook.exc_value is not None and not issubclass(hook.exc_type, SystemExit):
            fields = {"of": hook.thread.name if hook.thread else None}
            trace = (hook.exc_type, hook.exc_value, hook.exc_traceback)
            logger.critical("a thread crashed", exc_info=trace, extra=fields)

    def unraisable(hook: sys.UnraisableHookArgs) -> None:
        if hook.exc_value is not None:
            trace = (hook.exc_type, hook.exc_value, hook.exc_traceback)
            logger.error("an error that nobody can catch", exc_info=trace)

    sys.excepthook, threading.excepthook, sys.unraisablehook = crashed, thread_crashed, unraisable

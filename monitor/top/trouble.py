"""What stands below the batches: the monitor, its accounts and receivers where they are in trouble, and what fires.

Pure. The sentences about batches and failures are the daemon's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len, chop_cells
from rich.text import Text

from monitor import glossary, words
from monitor.top.marks import STYLES, Marks
from monitor.top.table import cut

_INDENT = 10
"""Columns before the sentence of an alert: those of its severity."""


def below(
    data: dict[str, Any],
    alerts: Sequence[dict[str, Any]],
    firing: int,
    marks: Marks,
    width: int,
    most: int | None = None,
) -> list[Text]:
    """What is in trouble, then what fires: whole where there is room, else in fewer lines, the rest counted."""
    now = datetime.fromisoformat(data["at"])
    troubles = [
        _beside(label, style, marks.clean(text), width) for label, style, text in _troubles(data, now)
    ]
    if not firing:
        troubles.append([Text("No alert is firing.", "dim")])
    unsaid = firing - len(alerts)
    rest = [Text(f"and {words.counted(unsaid, 'alert')} more", "dim")] if unsaid > 0 else []
    whole_ones = [_alert(alert, now, marks, width, causes=True) for alert in alerts]
    shorter = [_alert(alert, now, marks, width, causes=False) for alert in alerts]
    for blocks in (whole_ones, shorter):
        lines = [*(line for block in (*troubles, *blocks) for line in block), *rest]
        if most is None or len(lines) <= most:
            return lines
    most = most or 0
    lines = [_first(block, width, marks) for block in (*troubles, *shorter)]
    if unsaid <= 0 and len(lines) <= most:
        return lines
    shown = lines[: most - 1]
    return [*shown, Text(f"and {len(lines) - len(shown) + unsaid:,} more", "dim")]


def _first(block: list[Text], width: int, marks: Marks) -> Text:
    """The first line of it, with a mark where there are others."""
    return block[0] if len(block) == 1 else cut(block[0] + Text(" " * width), width, marks)


def _troubles(data: dict[str, Any], now: datetime) -> list[tuple[str, str, str]]:
    """What is wrong with the monitor, its accounts and its receivers: a label, its style, and a sentence."""
    found = []
    if not data["store_writable"]:
        found.append(("store", "bold red", glossary.STATE_FILE))
    if data["reload_error"]:
        text = f"{glossary.CONFIGURATION} {data['reload_error']}"
        found.append(("config", "bold red", text))
    found += [
        ("account", "red", glossary.over_limit(over, one["account"]))
        for one in data["discoveries"]
        if (over := one["batches_over_limit"])
    ]
    for account in data["accounts"]:
        if failing := account["failing"]:
            past = words.duration(now - datetime.fromisoformat(failing["since"]))
            text = f"{account['account']}: {failing['meaning']}, for {past} ({failing['error']})"
            found.append(("account", "red", text))
    found += [
        ("receiver", "red", f"{queue['receiver']}: {_queue(queue, now)}")
        for queue in data["receivers"]
        if queue["last_error"] or not queue["configured"]
    ]
    return found


def _queue(queue: dict[str, Any], now: datetime) -> str:
    waits = f"{words.counted(queue['pending'], 'message')} waiting" if queue["pending"] else "nothing waits"
    if queue["pending"] and queue["oldest_pending"]:
        past = words.duration(now - datetime.fromisoformat(queue["oldest_pending"]))
        waits += f", the oldest for {past}"
    if not queue["configured"]:
        waits += "; not configured any more: dropped 24 h after they were due"
    if queue["last_error"]:
        since = queue["failing_since"]
        past = f", failing for {words.duration(now - datetime.fromisoformat(since))}" if since else ""
        waits += f"; {queue['last_error']}{past}"
    return waits


def _alert(alert: dict[str, Any], now: datetime, marks: Marks, width: int, *, causes: bool) -> list[Text]:
    said, severity = alert["annotations"], alert["severity"]
    text = f"{alert['alertname']}: {said.get('summary') or alert['meaning']}"
    past = words.duration(now - datetime.fromisoformat(alert["since"]))
    cause = f". Cause: {said['cause']}" if said.get("cause") else ""
    more = marks.clean(f"for {past}{cause}") if causes else ""
    return _beside(severity, STYLES.get(severity, ""), marks.clean(text), width, more)


def _beside(label: str, style: str, text: str, width: int, more: str = "") -> list[Text]:
    """A label, and a text beside it on as many lines as it takes; below it, what is said more quietly."""
    indent = _INDENT if width >= 60 else 2
    if indent < _INDENT:
        text = f"{label}: {text}"
    first = f"{label:<{indent}}" if indent == _INDENT else "* "
    lines = [Text(line) for line in wrapped(text, width - indent)]
    lines += [Text(line, "dim") for line in wrapped(more, width - indent)] if more else []
    return [
        Text.assemble((first, style) if place == 0 else " " * indent, line)
        for place, line in enumerate(lines)
    ]


def wrapped(text: str, width: int) -> list[str]:
    """Lines that are not wider: broken between words, within those that are wider than a line."""
    lines, line = [], ""
    for word in text.split():
        for part in chop_cells(word, max(width, 2)) or [""]:
            longer = f"{line} {part}" if line else part
            if line and cell_len(longer) > width:
                lines.append(line)
                longer = part
            line = longer
    return [*lines, line]

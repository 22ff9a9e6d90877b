"""The terminal's view of a running daemon: one table of batches, the worst first, and what fires.

Draws what `/api/v1/batches` and `/api/v1/alerts` answer; it asks nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from monitor import words

_STYLES = {
    "stalled": "bold red",
    "overdue": "bold red",
    "gone": "bold red",
    "incomplete": "red",
    "paused": "yellow",
    "unknown": "yellow",
    "running": "green",
    "waiting": "cyan",
    "ended": "dim",
    "critical": "bold red",
    "warning": "yellow",
    "info": "green",
}


def batches_table(batches: Sequence[dict[str, Any]], now: datetime, *, width: int) -> RenderableType:
    """A row for each batch. `width`: columns of the terminal; narrow ones lose what matters least."""
    wide = width >= 110
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    # Names that were made up end in the id, which is what `explain` and `uncalled` are asked with.
    longest = max((len(batch["batch"]) for batch in batches), default=5)
    name_width = min(longest, width // 3) if wide else None
    table.add_column("BATCH", ratio=3, width=name_width, no_wrap=True, overflow="ellipsis")
    if wide:
        table.add_column("ACCOUNT", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    table.add_column("PROGRESS", no_wrap=True, width=16)
    table.add_column("DONE", justify="right", no_wrap=True)
    if width >= 90:
        table.add_column("PACE", justify="right", no_wrap=True)
        table.add_column("WINDOW", no_wrap=True)
    if wide:
        table.add_column("WHY", ratio=4, no_wrap=True, overflow="ellipsis")
    for batch in batches:
        ratio = batch["completion_ratio"]
        cells: list[RenderableType] = [Text(batch["batch"])]
        if wide:
            cells.append(Text(batch["account"]))
        cells.append(Text(batch["state"], style=_STYLES.get(batch["state"], "")))
        cells.append("" if ratio is None else ProgressBar(total=1.0, completed=ratio, width=16))
        cells.append("" if ratio is None else f"{batch['completed_calls']:,}/{batch['calls']:,}")
        if width >= 90:
            pace = batch["completed_calls_per_second"]
            cells += ["" if pace is None else words.pace(pace), _window(batch, now)]
        if wide:
            failing = batch["failing"]
            cells.append(
                Text(failing["error"] if failing else batch["why"], style="red" if failing else "dim")
            )
        table.add_row(*cells)
    if not batches:
        return Text("No batch is watched.", style="dim")
    return table


def alerts_list(alerts: Sequence[dict[str, Any]], now: datetime) -> RenderableType:
    """A line for each alert that fires."""
    firing = [alert for alert in alerts if alert["state"] == "firing"]
    if not firing:
        return Text("No alert is firing.", style="dim")
    lines = []
    for alert in firing:
        age = words.duration(now - datetime.fromisoformat(alert["since"]))
        line = Text(f"{alert['severity']:<9}", style=_STYLES.get(alert["severity"], ""))
        line.append(f"{alert['alertname']}  ", style="bold")
        line.append(f"{alert['annotations'].get('summary', '')} ", style="default")
        line.append(f"({age} ago)", style="dim")
        lines.append(line)
    return Group(*lines)


def screen(
    data: dict[str, Any], alerts: Sequence[dict[str, Any]], head: str | None, *, width: int
) -> RenderableType:
    """The whole view: a head line, the batches, the alerts."""
    now = datetime.fromisoformat(data["at"])
    accounts = [account for account in data["accounts"] if account["failing"]]
    trouble = [Text(account["failing"]["error"], style="red") for account in accounts]
    return Group(
        *([Text(head), Text()] if head else []),
        batches_table(data["batches"], now, width=width),
        Text(),
        *trouble,
        alerts_list(alerts, now),
    )


def explained(data: dict[str, Any]) -> RenderableType:
    """A batch, and for each alert whether it fires, why, and when it would."""
    batch, now = data["batch"], datetime.fromisoformat(data["at"])
    head = Text.assemble(
        (batch["batch"], "bold"),
        " is ",
        (batch["state"], _STYLES.get(batch["state"], "")),
        f": {batch['why']}",
    )
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("ALERT", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    table.add_column("WHY", ratio=1)
    table.add_column("IF NOTHING CHANGES", no_wrap=True)
    for one in data["explanations"]:
        style = {"firing": "bold red", "pending": "yellow"}.get(one["state"], "dim")
        fires_at = one["fires_at"]
        then = (
            "" if fires_at is None else f"fires in {words.duration(datetime.fromisoformat(fires_at) - now)}"
        )
        why = one["why"]
        if one["state"] in {"firing", "pending", "told"}:
            why += "".join(
                f"\n{unheard['receiver']} is not told: {unheard['why']}" for unheard in one["not_told"]
            )
        table.add_row(one["alertname"], Text(one["state"], style=style), Text(why), then)
    return Group(head, Text(), table)


def _window(batch: dict[str, Any], now: datetime) -> str:
    start, end = (batch.get(name) for name in ("window_start", "window_end"))
    if batch["state"] in {"ended", "incomplete"}:
        return ""
    if start is not None and (opens := datetime.fromisoformat(start)) > now:
        return f"opens in {words.duration(opens - now)}"
    if end is None:
        return ""
    left = datetime.fromisoformat(end) - now
    return f"{words.duration(left)} left" if left.total_seconds() > 0 else "closed"

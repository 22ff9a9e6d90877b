"""The table of batches, as wide as there is room: which columns fit, how wide each is, what stands in them.

Pure. The words are the daemon's (`why`, `outlook`, `meaning`); here they are put next to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from monitor import words
from monitor.top.marks import STYLES, Marks

Batch = dict[str, Any]

_GAP = "  "
_STALE = timedelta(minutes=1)
"""A look at a batch that is late by this much is worth a warning, as on the page."""

_SPARK = 8
_BAR = 16
_PERCENT = 6
"""Columns of a sparkline, of a bar where there is room, and of ` 100 %`."""

_SPARED: tuple[tuple[str, int], ...] = (
    *(("spark", 0), ("progress", _PERCENT + 10), ("outlook", 0), ("account", 0), ("why", 0)),
    *(("progress", _PERCENT + 8), ("name", 14), ("pace", 0), ("progress", _PERCENT + 4), ("name", 12)),
    *(("seen", 0), ("window", 0), ("done", 0), ("progress", _PERCENT), ("name", 8), ("progress", 0)),
    *(("state", 0), ("name", 1)),
)
"""Where there is not room for everything, what is spared, in this order: down to so many columns; 0: all of it."""

_GROWN = ("name", "state", "done", "pace", "window", "seen", "progress", "outlook", "account", "why")
"""What grows first with the room that is left: to what is usual, then to all of it."""


_SHAPES = (frozenset({"outlook", "why"}), frozenset({"why"}), frozenset({"seen"}))
"""Wide, usual, narrow. What has no column of its own is said in WHY: what is to be expected, and how old it is."""


@dataclass(frozen=True, slots=True)
class _Column:
    """What stands in a column, drawn so many columns wide (0: as wide as it likes)."""

    key: str
    title: str
    cell: Callable[[Batch, int], Text]
    least: int | None = None  # None: it is never cut
    usual: int = 0  # columns stay where they are while the numbers in them change
    right: bool = False


def table(batches: Sequence[Batch], now: datetime, marks: Marks, *, width: int) -> list[Text]:
    """A head, and a line for each batch; none is wider than `width`."""
    columns: list[_Column] = []
    widths: dict[str, int] = {}
    for wanted in _SHAPES:
        columns = _columns(batches, now, marks, wanted)
        widths = _widths(columns, batches, width)
        if wanted <= set(widths):
            break
    shown = [column for column in columns if column.key in widths]
    head = [Text(column.title) for column in shown]
    rows = [[column.cell(batch, widths[column.key]) for column in shown] for batch in batches]
    lines = [_line(cells, shown, widths, marks) for cells in (head, *rows)]
    lines[0].stylize("dim")
    return lines


def state_of(batch: Batch) -> str:
    """`running`, `at risk`, `paused, at risk`."""
    state: str = batch["state"]
    if not batch["at_risk"]:
        return state
    return "at risk" if state == "running" else f"{state}, at risk"


def window_of(batch: Batch, now: datetime) -> str:
    """Where it stands to its window. "": it was never seen."""
    if batch["calls"] is None:
        return ""
    start, end, ended = (
        datetime.fromisoformat(at) if (at := batch[name]) else None
        for name in ("window_start", "window_end", "ended")
    )
    return words.window(start, end, ended, now)


def _columns(batches: Sequence[Batch], now: datetime, marks: Marks, wanted: frozenset[str]) -> list[_Column]:
    """All that there is to show, in the columns that all shapes have and in those that this one wants."""

    def plain(text: Callable[[Batch], str]) -> Callable[[Batch, int], Text]:
        return lambda batch, _: Text(marks.clean(text(batch)))

    def progress(batch: Batch, width: int) -> Text:
        ratio = batch["completion_ratio"]
        if ratio is None:
            return Text()
        share = Text(f"{words.percent(ratio):>{_PERCENT}}")
        if width <= _PERCENT:
            return share
        return marks.bar(ratio, width - _PERCENT, STYLES.get(state_of(batch), STYLES["at risk"])) + share

    def seen(batch: Batch, _: int) -> Text:
        return Text(_age(batch, now), "red")

    def outlook(batch: Batch, _: int) -> Text:
        return Text(marks.clean(batch["outlook"] or ""), "red" if batch["at_risk"] else "")

    def why(batch: Batch, _: int) -> Text:
        failing, age = batch["failing"], _age(batch, now)
        trouble = f": {failing['meaning']} ({failing['error']})" if failing else ""
        parts = [Text(marks.clean(f"seen {age}{trouble}"), "red")] if age else []
        parts += [] if "outlook" in wanted or not batch["outlook"] else [outlook(batch, 0)]
        return Text("; ").join([*parts, Text(marks.clean(batch["why"]), "dim")])

    found = [
        _Column("name", "BATCH", plain(lambda batch: batch["batch"]), least=20, usual=24),
        _Column("account", "ACCOUNT", plain(lambda batch: batch["account"]), least=8, usual=8),
        _Column(
            "state",
            "STATE",
            lambda batch, _: Text(state_of(batch), STYLES.get(state_of(batch), STYLES["at risk"])),
            usual=10,
        ),
        _Column("progress", "PROGRESS", progress, least=_PERCENT + _BAR, usual=_PERCENT + _BAR),
        _Column("done", "DONE", plain(_done), usual=11, right=True),
        _Column("pace", "CALLS/H", plain(_pace), usual=8, right=True),
        _Column("spark", "", lambda batch, _: Text(marks.spark(batch["recent_paces"], _SPARK)), usual=_SPARK),
        _Column("window", "WINDOW", plain(lambda batch: window_of(batch, now)), usual=20),
        _Column("seen", "SEEN", seen, usual=11),
        _Column("outlook", "OUTLOOK", outlook, least=34, usual=46),
        _Column("why", "WHY", why, least=24),
    ]
    needless = frozenset[str]().union(*_SHAPES) - wanted
    if len({batch["account"] for batch in batches}) < 2:
        needless |= {"account"}
    if not any(_age(batch, now) for batch in batches):
        needless |= {"seen"}
    if not any(marks.spark(batch["recent_paces"], _SPARK) for batch in batches):
        needless |= {"spark"}
    return [column for column in found if column.key not in needless]


def _widths(columns: Sequence[_Column], batches: Sequence[Batch], width: int) -> dict[str, int]:
    """How wide each column is that there is room for."""
    natural = {
        column.key: max([cell_len(column.title), *(column.cell(batch, 0).cell_len for batch in batches)])
        for column in columns
    }
    widths = {
        column.key: column.least
        if column.key == "progress" and column.least
        # not more than it needs: the room is not held for what is short
        else min(natural[column.key], column.least or natural[column.key])
        for column in columns
    }

    def spare() -> int:
        return width - sum(widths.values()) - len(_GAP) * (len(widths) - 1)

    for key, least in _SPARED:
        if spare() >= 0:
            break
        if key in widths and least:
            widths[key] = max(min(widths[key], least), widths[key] + spare())
        else:
            widths.pop(key, None)
    usual = {column.key: column.usual for column in columns}
    for most in (usual, natural):
        for key in _GROWN:
            wanted = (
                min(most.get(key, 0), natural.get(key, 0)) if key in {"name", "account"} else most.get(key, 0)
            )
            if key in widths and wanted > widths[key]:
                widths[key] += max(0, min(spare(), wanted - widths[key]))
    return widths


def _line(cells: Sequence[Text], columns: Sequence[_Column], widths: dict[str, int], marks: Marks) -> Text:
    line = Text(no_wrap=True, overflow="crop", end="")
    for place, (cell, column) in enumerate(zip(cells, columns, strict=True)):
        room = widths[column.key]
        line.append(_GAP if place else "")
        blank = " " * (room - cell.cell_len)
        line.append(blank if column.right else "")
        line.append_text(cut(cell, room, marks))
        line.append("" if column.right or place == len(columns) - 1 else blank)
    return line


def cut(text: Text, width: int, marks: Marks) -> Text:
    """The text, ended with a mark where it is wider."""
    if text.cell_len <= width:
        return text
    kept = text.copy()
    kept.truncate(max(0, width - 1), overflow="crop")
    kept.rstrip()
    return kept.append(marks.cut)


def _done(batch: Batch) -> str:
    return "" if batch["calls"] is None else f"{batch['completed_calls']:,}/{batch['calls']:,}"


def _pace(batch: Batch) -> str:
    pace = batch["completed_calls_per_second"]
    return "" if pace is None else words.pace(pace).removesuffix(" calls/h")


def _age(batch: Batch, now: datetime) -> str:
    """How old what is known of it is; "" where it is as young as it should be."""
    due, last = batch["next_poll"], batch["last_success"]
    late = due is not None and now - datetime.fromisoformat(due) > _STALE
    if batch["failing"] is None and not late:
        return ""
    return words.ago(now - datetime.fromisoformat(last)) if last else "never"

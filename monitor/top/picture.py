"""The whole view as lines: head, counts, batches, what fires, what is in trouble, and the keys.

Pure: what the daemon answered, what somebody wants to look at and the size of the terminal in, lines out. It
asks nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from monitor import words
from monitor.choice import ANY, AT_RISK, MOST_ROWS
from monitor.top.marks import STYLES, Marks
from monitor.top.table import cut, table
from monitor.top.trouble import below, wrapped
from monitor.top.view import HELP, View


@dataclass(frozen=True, slots=True)
class Known:
    """What the daemon last answered, and how it answers now."""

    url: str
    data: dict[str, Any] = field(default_factory=dict)  # empty: nothing yet
    alerts: tuple[dict[str, Any], ...] = ()  # those that fire, the worst first, not more than can be shown
    firing: int = 0  # all that fire
    asked: View = field(
        default_factory=View
    )  # what it was asked for: somebody may by now look for something else
    part: int = 0  # batches that were asked for; 0: all
    age: timedelta | None = None  # of the answer; None: it is not said
    lost: str | None = None  # why it does not answer now; None: it does
    lost_at: datetime | None = None  # since when, in the zone of the one who looks
    lost_for: timedelta = timedelta()
    every: float = 0.0  # seconds between two questions
    note: str = ""  # what else is to be said at the top


def whole(known: Known, view: View, marks: Marks, width: int) -> list[Text]:
    """All there is, however many lines it takes: printed once."""
    rows = _rows(known, marks, width, keys=False)
    troubles = below(known.data, known.alerts, known.firing, marks, width)
    lines = [*_head(known, marks, width), *_tiles(known, view, width), Text(), *rows, Text(), *troubles]
    return [cut(line, width, marks) for line in lines]


def screen(known: Known, view: View, marks: Marks, width: int, height: int) -> list[Text]:
    """As many lines as the terminal has, at most; the last is about keys."""
    foot = _foot(view, marks, width)
    if view.help:
        body = _help(marks, width)
    elif not known.data:
        body = [*_head(known, marks, width), Text(), *_waiting(known, marks, width)]
    else:
        body = _fitted(known, view, marks, width, height - 1)
        if known.lost:
            past = len(_head(known, marks, width)) if height > 8 else 1
            for line in body[past:]:
                line.stylize("not bold dim")
    body = body[: height - 1]
    lines = [*body, *(Text() for _ in range(height - 1 - len(body))), foot]
    return [cut(line, width, marks) for line in lines]


def rows_that_fit(known: Known, view: View, marks: Marks, width: int, height: int) -> int:
    """Batches that a terminal of this size has lines for."""
    return min(_plan(known, view, marks, width, height - 1)[0], MOST_ROWS)


def alerts_that_fit(height: int) -> int:
    """Alerts worth asking for: never more than there are lines."""
    return max(1, min(height, 100))


def _plan(known: Known, view: View, marks: Marks, width: int, lines: int) -> tuple[int, int, bool]:
    """How the lines are shared: batches, what is below them, and whether there are blank lines between."""
    airy = lines >= 15
    head = len(_head(known, marks, width)) + (len(_tiles(known, view, width)) if lines >= 8 else 0)
    fixed = (
        (head if lines >= 8 else 1) + 2 * airy + 2
    )  # the table's head, and the line that says what is not shown
    wanted = len(below(known.data, known.alerts, known.firing, marks, width)) if known.data else 0
    wanted = min(wanted, max(lines // 3, 1)) if lines >= 8 else 0
    return max(1, lines - fixed - wanted), wanted, airy


def _fitted(known: Known, view: View, marks: Marks, width: int, lines: int) -> list[Text]:
    room, least, airy = _plan(known, view, marks, width, lines)
    blank = [Text()] if airy else []
    rows = _rows(known, marks, width, most=room)
    head = _head(known, marks, width)
    if lines < 8:
        return [head[-1 if known.lost else 0], *rows]
    above = [*head, *_tiles(known, view, width), *blank, *rows]
    room_below = max(least, lines - len(above) - len(blank))
    return [*above, *blank, *below(known.data, known.alerts, known.firing, marks, width, most=room_below)]


# From top to bottom


def _head(known: Known, marks: Marks, width: int) -> list[Text]:
    title, fresh, up = "Ultravox Batch Monitor", "", ""
    if known.data:
        title += marks.clean(f" {known.data['version']}")
        fresh = f"answered {words.ago(known.age)}" if known.age is not None else ""
        if started := known.data["started"]:
            running = datetime.fromisoformat(known.data["at"]) - datetime.fromisoformat(started)
            up = f"up {words.duration(running)}"
    address = f" at {marks.clean(known.url)}"
    # As much as there is room for: how fresh it is says more than where it is from.
    choices = (
        (address, f"{fresh}, {up}"),
        (address, fresh),
        ("", f"{fresh}, {up}"),
        ("", fresh),
        (address, ""),
    )
    left, right = next(
        (
            (left, right.strip(", "))
            for left, right in choices
            if len(title) + len(left) + len(right.strip(", ")) + 2 <= width
        ),
        ("", ""),
    )
    space = width - len(title) - len(left) - len(right) if right else 0
    line = Text.assemble((title, "bold"), left, " " * space, (right, "dim"))
    found = [cut(line, width, marks)]
    if known.note:
        found.append(cut(Text(marks.clean(known.note), "dim"), width, marks))
    if known.lost and known.data:
        since = f" since {known.lost_at:%H:%M:%S}" if known.lost_at else ""
        said = (
            f" No answer{since}, for {words.duration(known.lost_for)}: {known.lost}; "
            "what follows is old, asking goes on "
        )
        found.append(cut(Text(marks.fit(marks.clean(said), width), "bold red reverse"), width, marks))
    return found


def _waiting(known: Known, marks: Marks, width: int) -> list[Text]:
    if known.lost is None:
        return [Text("Asking ...", "dim")]
    since = f" since {known.lost_at:%H:%M:%S}" if known.lost_at else ""
    sentences = (
        f"No daemon answers{since}, for {words.duration(known.lost_for)}: {known.lost}.",
        f"Start one with `batch-monitor run`, or name it with --url. Asked again every {known.every:g} s.",
    )
    styles = ("bold red", "")
    return [
        Text(line, style)
        for text, style in zip(sentences, styles, strict=True)
        for line in wrapped(marks.clean(text), width)
    ]


def _tiles(known: Known, view: View, width: int) -> list[Text]:
    """How many batches are in which state, the chosen ones turned round; as many lines as that takes."""
    if not known.data:
        return []
    states: dict[str, int] = known.data["states"]
    chosen = set(view.states.split(",")) if view.states else set()
    tiles = [(sum(states.values()), "all", "bold", not chosen and not view.firing)]
    if known.data["at_risk"] or view.firing == AT_RISK:
        tiles.append((known.data["at_risk"], "at risk", STYLES["at risk"], view.firing == AT_RISK))
    tiles += [
        (states.get(state, 0), state, STYLES.get(state, ""), state in chosen)
        for state in dict.fromkeys([*states, *sorted(chosen)])
    ]
    lines = [Text()]
    narrowed = bool(view.states or view.firing)
    for count, name, style, on in tiles:
        tile = Text.assemble((f"{count:,} {name}", f"{style} reverse" if on and narrowed else style))
        if lines[-1].cell_len and lines[-1].cell_len + 3 + tile.cell_len > width:
            lines.append(Text())
        lines[-1].append("   " if lines[-1].cell_len else "").append_text(tile)
    return lines


def _rows(
    known: Known, marks: Marks, width: int, *, most: int | None = None, keys: bool = True
) -> list[Text]:
    """The table, and a line that says which part of what it is."""
    data, view = known.data, known.asked
    narrowed = marks.clean(view.narrowed)
    batches: Sequence[dict[str, Any]] = data["batches"][:most]
    if not batches:
        if narrowed:
            again = "; Esc shows all" if keys else ""
            return [
                cut(Text(f"No batch is like that ({narrowed}){again}.", "dim"), width, marks),
            ]
        text = (
            "No batch is watched. Those of the configuration are there at once, those that are found within two "
            "minutes; accounts in trouble stand below."
        )
        return [Text(line, "dim") for line in wrapped(text, width)]
    matching = data["matching"]
    first = (data["page"] - 1) * known.part + 1
    last = first + len(batches) - 1
    if len(batches) == matching:
        parts = [f"{matching:,} {'batch' if matching == 1 else 'batches'}"]
    else:
        parts = [f"{first:,} to {last:,} of {matching:,} batches"]
    parts += [view.order, *([narrowed] if narrowed else [])]
    text = ", ".join(parts)
    if left := matching - last:
        text += f"; {left:,} more" + (" with PgDn" if keys else "")
    return [
        *table(batches, datetime.fromisoformat(data["at"]), marks, width=width),
        cut(Text(text, "dim"), width, marks),
    ]


def _help(marks: Marks, width: int) -> list[Text]:
    lines = [Text("Keys", "bold"), Text()]
    for key, does in HELP:
        for place, line in enumerate(wrapped(does, width - 14)):
            lines.append(Text.assemble((f"{key if place == 0 else '':<12}  ", "bold"), line))
    return [cut(line, width, marks) for line in lines]


def _foot(view: View, marks: Marks, width: int) -> Text:
    """The keys, the most wanted first, as many as there is room for; or what is being typed."""
    if view.typing is not None:
        shown = marks.clean(view.typing)
        room = width - len("Search: ") - 1
        while shown and cell_len(shown) > room:
            shown = shown[1:]
        line = Text.assemble(("Search: ", "bold"), shown, (" ", "reverse"))
        hint = "   Enter searches, Esc does not"
        return line.append(hint, "dim") if line.cell_len + len(hint) <= width else cut(line, width, marks)
    if view.help:
        return cut(Text("any key closes this", "dim"), width, marks)
    firing = "all" if view.firing == ANY else "firing only"
    keys = (
        ("q", "quit"),
        ("?", "help"),
        ("/", "search"),
        ("s", f"order: {view.order}"),
        ("f", firing),
        ("t", f"state: {view.states or 'any'}"),
        ("a", f"account: {view.account or 'any'}"),
        ("r", "reverse"),
        ("PgDn PgUp", "turn"),
        ("Esc", "all again"),
    )
    line = Text()
    for key, does in keys:
        piece = Text.assemble((key, "bold"), (f" {marks.clean(does)}", "dim"))
        if line.cell_len + 3 + piece.cell_len > width:
            break
        line.append("   " if line.cell_len else "").append_text(piece)
    return line

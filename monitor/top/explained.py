"""One batch explained: whether each alert fires, why, and when it would.

Draws what `/api/v1/explain` answers; it asks nothing and decides nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitor import words
from monitor.top.marks import STYLES, Marks


def explained(data: dict[str, Any], marks: Marks) -> RenderableType:
    """A batch, and for each alert whether it fires, why, and when it would."""
    batch, now = data["batch"], datetime.fromisoformat(data["at"])
    head = Text.assemble(
        (marks.clean(batch["batch"]), "bold"),
        " is ",
        (batch["state"], STYLES.get(batch["state"], "")),
        f": {marks.clean(batch['why'])}",
    )
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("ALERT", no_wrap=True, overflow="crop")
    table.add_column("STATE", no_wrap=True, overflow="crop")
    table.add_column("WHY", ratio=1)
    table.add_column("IF NOTHING CHANGES", no_wrap=True, overflow="crop")
    for one in data["explanations"]:
        style = {"firing": "bold red", "pending": "yellow"}.get(one["state"], "dim")
        fires_at = one["fires_at"]
        then = (
            "" if fires_at is None else f"fires in {words.duration(datetime.fromisoformat(fires_at) - now)}"
        )
        why = marks.clean(one["why"])
        if one["state"] in {"firing", "pending", "told"}:
            why += "".join(
                f"\n{marks.clean(unheard['receiver'])} is not told: {marks.clean(unheard['why'])}"
                for unheard in one["not_told"]
            )
        table.add_row(one["alertname"], Text(one["state"], style=style), Text(why), then)
    return Group(head, Text(), table)

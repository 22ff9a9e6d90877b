"""The terminal's view of a running daemon: what the page shows, once or for as long as one looks.

Draws what the daemon answers; it decides nothing. Start at `picture`.
"""

from __future__ import annotations

import os
from typing import IO

from rich.console import Console

from monitor.top.explained import explained
from monitor.top.follow import Follower, joined, read
from monitor.top.marks import Marks, marks
from monitor.top.picture import Known, whole
from monitor.top.view import View

__all__ = ["Follower", "Known", "Marks", "View", "console", "explained", "marks", "print_whole", "read"]

_PIPED = 200
"""Columns where nobody said how many there are: a pipe has no width, and what reads it wants whole names."""


def console(file: IO[str] | None = None) -> tuple[Console, Marks]:
    """Where to draw, and with what."""
    made = Console(file=file, highlight=False, markup=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made = Console(file=file, highlight=False, markup=False, emoji=False, width=_PIPED)
    return made, marks(made.encoding, os.environ)


def print_whole(made: Console, known: Known, view: View, drawn: Marks) -> None:
    """All of it, once."""
    made.print(joined(whole(known, view, drawn, made.width)))

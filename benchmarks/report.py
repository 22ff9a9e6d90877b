"""What was measured, as rows: one table for people, one JSON for machines."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A figure beside that of a peer, or beside a limit. Without an aim it is there to be known."""

    subject: str
    what: str
    figure: float
    unit: str
    against: str = ""
    against_figure: float | None = (
        None  # None: there is nothing to compare it with, or the peer is not installed
    )
    aim: float | None = None  # of the ratio: at most

    @property
    def ratio(self) -> float | None:
        """The figure over the other's; None: there is no other."""
        return self.figure / self.against_figure if self.against_figure else None

    @property
    def verdict(self) -> str:
        """Whether the aim was reached; "" without one, or where it cannot be known."""
        if self.aim is None or self.ratio is None:
            return ""
        return "reached" if self.ratio <= self.aim else "MISSED"


def limit(subject: str, what: str, figure: float, unit: str, most: float) -> Row:
    """A figure that is to be no more than this."""
    return Row(subject, what, figure, unit, "at most", most, 1.0)


def machine() -> str:
    """On what it ran, and how busy that is with other things."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    libraries = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "prometheus-client"))
    return f"{os.cpu_count()} × {cpu}; Python {platform.python_version()}, {libraries}; load average {load}"


def table(rows: Sequence[Row]) -> str:
    """A line for each row, under the name of its subject."""
    wide = max(len(row.what) for row in rows)
    other = max(len(row.against) for row in rows)
    head = f"{'':<{wide}} {'figure':>9} {'unit':<10} {'against':<{other}} {'its figure':>10} {'ratio':>6} {'aim':>5}"
    return "\n".join([head, *_lines(rows, wide, other)])


def _lines(rows: Iterable[Row], wide: int, other: int) -> Iterable[str]:
    subject = ""
    for row in rows:
        if row.subject != subject:
            subject = row.subject
            yield f"\n{subject}"
        beside = _number(row.against_figure) if row.against_figure is not None else ""
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        aim = f"{row.aim:g}" if row.aim is not None else ""
        yield (
            f"{row.what:<{wide}} {_number(row.figure):>9} {row.unit:<10} {row.against:<{other}} "
            f"{beside:>10} {ratio:>6} {aim:>5} {row.verdict}"
        ).rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""What a terminal can draw: bars, sparklines and text that leave its width, its letters and its state alone.

Pure. Everything that comes from outside (names, errors, sentences with names in them) passes `clean`: a batch
may be called anything, and a terminal obeys what it is sent.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

STYLES = {
    "at risk": "bold red",
    "stalled": "bold red",
    "overdue": "bold red",
    "gone": "red",
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
"""Of states and severities. Only the 16 colours that every terminal has, which its owner may have chosen."""

_HEIGHTS = "▁▂▃▄▅▆▇█"
_COERCED = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})
"""What Python makes of LC_CTYPE, in the environment too, where the locale is C (PEP 538)."""


@dataclass(frozen=True, slots=True)
class Marks:
    """How one terminal is drawn on."""

    charset: str = "utf-8"  # what its letters are; drawn with more than ASCII where it is UTF-8

    @property
    def rich(self) -> bool:
        """Whether it has more than ASCII to draw with."""
        return self.charset == "utf-8"

    @property
    def cut(self) -> str:
        """Where a text goes on."""
        return "…" if self.rich else "~"

    def clean(self, text: object) -> str:
        """The text on one line: without control characters, invisible ones and letters the terminal has not."""
        plain = "".join(_shown(char) for char in str(text))
        return plain.encode(self.charset, "replace").decode(self.charset)

    def fit(self, text: str, width: int) -> str:
        """Exactly so many columns of it: padded, or cut with a mark."""
        if cell_len(text) <= width:
            return set_cell_size(text, width)
        return set_cell_size(text, max(0, width - 1)).rstrip() + self.cut if width > 0 else ""

    def bar(self, ratio: float, width: int, style: str) -> Text:
        """A bar of exactly so many columns. It is full only when everything is done, empty only when nothing is."""
        halves = round(min(max(ratio, 0.0), 1.0) * width * 2)
        if ratio > 0:
            halves = max(halves, 1)
        if ratio < 1:
            halves = min(halves, width * 2 - 1)
        full, half = divmod(halves, 2)
        if not self.rich:
            done = "#" * full + "=" * half
            return Text.assemble((done, style), ("-" * (width - len(done)), "dim"))
        done = "━" * full + "╸" * half
        return Text.assemble((done, style), ("─" * (width - len(done)), "dim"))

    def spark(self, values: Sequence[float], width: int) -> str:
        """Paces as a line of so many columns, each the mean of its part; "" where it cannot be drawn."""
        if not self.rich or not values or max(values) <= 0:
            return ""
        step = len(values) / width
        parts = [values[int(n * step) : max(int((n + 1) * step), int(n * step) + 1)] for n in range(width)]
        means = [sum(part) / len(part) for part in parts]
        top = max(means) or 1.0
        return "".join(_HEIGHTS[min(int(mean / top * len(_HEIGHTS)), len(_HEIGHTS) - 1)] for mean in means)


def marks(encoding: str, environ: Mapping[str, str]) -> Marks:
    """By what standard output can carry and what the environment says that the terminal can show."""
    given = environ.get("PYTHONIOENCODING", "").partition(":")[0]
    if given or environ.get("PYTHONUTF8") == "1":
        return Marks(_named(given or encoding))
    # Python writes UTF-8 where the locale is C; the terminal of somebody who asks for C may not read it.
    chosen = environ.get("LC_ALL") or environ.get("LC_CTYPE", "")
    if not environ.get("LC_ALL") and chosen in {"", *_COERCED}:
        chosen = environ.get("LANG", "")
    return Marks("ascii" if chosen in {"C", "POSIX"} else _named(encoding))


def _named(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        return "ascii"
    return "utf-8" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding


def _shown(char: str) -> str:
    if char in "\t\n\r\v\f\u2028\u2029\x85":
        return " "
    kind = unicodedata.category(char)
    # Cc obeys, Cf turns the line round or is not seen, Cs cannot be encoded, Co and Cn have no known width.
    # Marks that stand on the letter before them have none either: terminals disagree about U+FE0F.
    return "" if kind[0] == "C" or "\ufe00" <= char <= "\ufe0f" else char

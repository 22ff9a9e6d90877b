"""What somebody looks at, and what each key makes of it.

Pure: a View and a key in, a View out. Filtering, sorting and paging are the daemon's (`monitor/choice.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from monitor.choice import ANY, AT_RISK, Sort

_ORDER = tuple(Sort)

ORDERS = {
    Sort.WORST: "worst first",
    Sort.NAME: "by name",
    Sort.PROGRESS: "least done first",
    Sort.PACE: "slowest first",
    Sort.WINDOW: "closes first",
    Sort.SEEN: "longest unseen first",
}
"""In the words of the page's choice of orders; a sentence says "by name"."""


@dataclass(frozen=True, slots=True)
class View:
    """Which batches, in which order, from which on. Empty fields choose everything."""

    states: str = ""  # with commas between
    account: str = ""
    firing: str = ""  # "any", or an alert's name
    search: str = ""
    sort: Sort = Sort.WORST
    reverse: bool = False
    first: int = 0  # batches before the first that is shown
    typing: str | None = None  # what has been typed of a search; None: nobody types
    help: bool = False

    @property
    def order(self) -> str:
        """`worst first`, `by name, reversed`."""
        return ORDERS[self.sort] + (", reversed" if self.reverse else "")

    @property
    def narrowed(self) -> str:
        """`account main, stalled, search “spring”`: why not all batches are shown. "": they are."""
        parts = (
            f"account {self.account}" if self.account else "",
            self.states.replace(",", " or "),
            ("at risk" if self.firing == AT_RISK else "firing" if self.firing == ANY else self.firing),
            f'search "{self.search}"' if self.search else "",
        )
        return ", ".join(part for part in parts if part)

    def query(self, limit: int | None = None) -> dict[str, str]:
        """What the daemon is asked: so many batches, or all of them."""
        asked = {
            "state": self.states,
            "account": self.account,
            "firing": self.firing,
            "q": self.search,
            "sort": ("-" if self.reverse else "") + self.sort.value,
        }
        if limit is not None:
            asked |= {"limit": str(limit), "page": str(self.first // limit + 1)}
        return {name: value for name, value in asked.items() if value}


@dataclass(frozen=True, slots=True)
class Offer:
    """What the last answer offers to keys."""

    accounts: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    matching: int = 0
    rows: int = 1  # of one part


def pressed(view: View, key: str, offer: Offer) -> View | None:
    """The view after a key; None: it is left. Keys that mean nothing change nothing."""
    if view.typing is not None:
        return _typed(view, view.typing, key)
    if key in {"q", "Q"}:
        return None
    if view.help:
        return replace(view, help=False)
    act = _KEYS.get(key)
    return act(view, offer) if act else view


def _typed(view: View, text: str, key: str) -> View:
    if key == "enter":
        return replace(view, typing=None, search=text.strip(), first=0)
    if key == "escape":
        return replace(view, typing=None)
    if key == "backspace":
        return replace(view, typing=text[:-1])
    if key == "clear":
        return replace(view, typing="")
    return replace(view, typing=text + key) if len(key) == 1 and key.isprintable() else view


def _next(options: tuple[str, ...], present: str) -> str:
    """The option after the present one; "" is before the first and after the last."""
    ring = ("", *options)
    return ring[(ring.index(present) + 1) % len(ring)] if present in ring else ""


def _sort(view: View, _: Offer) -> View:
    following = _ORDER[(_ORDER.index(view.sort) + 1) % len(_ORDER)]
    return replace(view, sort=following, reverse=False, first=0)


def _only(view: View, firing: str) -> View:
    return replace(view, firing="" if view.firing == firing else firing, first=0)


def _turn(view: View, offer: Offer, to: int) -> View:
    last = max(0, offer.matching - 1) // offer.rows * offer.rows
    return replace(view, first=min(max(0, to), last))


_KEYS: dict[str, Callable[[View, Offer], View]] = {
    "s": _sort,
    "r": lambda view, _: replace(view, reverse=not view.reverse, first=0),
    "/": lambda view, _: replace(view, typing=view.search),
    "f": lambda view, _: _only(view, ANY),
    "w": lambda view, _: _only(view, AT_RISK.value),
    "a": lambda view, offer: replace(view, account=_next(offer.accounts, view.account), first=0),
    "t": lambda view, offer: replace(view, states=_next(offer.states, view.states), first=0),
    "escape": lambda view, _: View(sort=view.sort, reverse=view.reverse),
    "?": lambda view, _: replace(view, help=True),
    "h": lambda view, _: replace(view, help=True),
    **dict.fromkeys(
        ("down", "right", "page down", "j", " "),
        lambda view, offer: _turn(view, offer, view.first + offer.rows),
    ),
    **dict.fromkeys(
        ("up", "left", "page up", "k"), lambda view, offer: _turn(view, offer, view.first - offer.rows)
    ),
    **dict.fromkeys(("home", "g"), lambda view, offer: _turn(view, offer, 0)),
    **dict.fromkeys(("end", "G"), lambda view, offer: _turn(view, offer, offer.matching)),
}

HELP: tuple[tuple[str, str], ...] = (
    ("q", "quit"),
    ("s", "next order: worst, name, progress, pace, window, seen"),
    ("r", "the other way round"),
    ("/", "search: words in the name, agent, account, ids, throttle or labels; Enter searches, Esc does not"),
    ("f", "only batches of which an alert fires, or all again"),
    ("w", "only batches at risk of missing their window, or all again"),
    ("t", "next state, of those that there are"),
    ("a", "next account"),
    ("Esc", "all batches again"),
    ("PgDn, PgUp", "further down, back up; so do the arrows, j and k"),
    ("Home, End", "the first, the last; so do g and G"),
    ("?", "this help; any key closes it"),
)
"""Each key and what it does, as the help and docs/cli.md say it."""

"""Keys: what a terminal sends for them, and what each makes of a view."""

from __future__ import annotations

import os
import pty
import termios
from pathlib import Path

import pytest

from monitor.choice import Sort, asked
from monitor.top.keys import Keyboard, split
from monitor.top.view import HELP, Offer, View, pressed

OFFER = Offer(accounts=("main", "agency"), states=("stalled", "running"), matching=45, rows=20)


@pytest.mark.parametrize(
    ("sent", "keys", "rest"),
    [
        ("", [], ""),
        ("q", ["q"], ""),
        ("jk/", ["j", "k", "/"], ""),
        ("\x1b[A\x1b[B\x1bOA\x1bOB", ["up", "down", "up", "down"], ""),
        (
            "\x1b[5~\x1b[6~\x1b[H\x1bOF\x1b[1~\x1b[4~",
            ["page up", "page down", "home", "end", "home", "end"],
            "",
        ),
        ("\r\n\x7f\b\x15", ["enter", "enter", "backspace", "backspace", "clear"], ""),
        ("\x1b", [], "\x1b"),
        ("q\x1b[", ["q"], "\x1b["),
        ("\x1b[6", [], "\x1b[6"),
        ("\x1b[15~\x1b[1;5Cx", ["x"], ""),  # F5 and Ctrl-Right mean nothing here
        ("é日", ["é", "日"], ""),
    ],
)
def test_what_a_terminal_sends(sent, keys, rest):
    assert split(sent) == (keys, rest)


def test_an_escape_that_nothing_follows_is_the_key():
    assert split("\x1b", complete=True) == (["escape"], "")
    assert split("\x1b[", complete=True) == (["escape"], "")


def test_a_terminal_is_given_back_as_it_was():
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        keyboard = Keyboard(theirs)
        with pytest.raises(RuntimeError), keyboard.taken():  # noqa: PT012 - what is read is asserted inside
            assert not termios.tcgetattr(theirs)[3] & (termios.ECHO | termios.ICANON)
            assert termios.tcgetattr(theirs)[3] & termios.ISIG
            os.write(ours, "é".encode()[:1])
            assert keyboard.read() == []
            os.write(ours, "é".encode()[1:] + b"\x1b[")
            assert keyboard.read() == ["é"]
            assert keyboard.unsure
            os.write(ours, b"A")
            assert (keyboard.read(), keyboard.unsure) == (["up"], False)
            raise RuntimeError
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("view", "key", "after"),
    [
        (View(), "q", None),
        (View(first=20), "s", View(sort=Sort.NAME)),
        (View(sort=Sort.SEEN, reverse=True), "s", View()),
        (View(), "r", View(reverse=True)),
        (View(reverse=True), "r", View()),
        (View(first=20), "f", View(firing="any")),
        (View(firing="any"), "f", View()),
        (View(firing="any"), "w", View(firing="BatchWindowAtRisk")),
        (View(firing="BatchWindowAtRisk"), "w", View()),
        (View(), "a", View(account="main")),
        (View(account="main"), "a", View(account="agency")),
        (View(account="agency"), "a", View()),
        (View(account="gone"), "a", View()),
        (View(), "t", View(states="stalled")),
        (View(states="stalled"), "t", View(states="running")),
        (View(states="running"), "t", View()),
        (View(), "/", View(typing="")),
        (View(search="old"), "/", View(search="old", typing="old")),
        (View(account="main", search="x", sort=Sort.NAME, first=20), "escape", View(sort=Sort.NAME)),
        (View(), "?", View(help=True)),
        (View(help=True), "s", View()),
        (View(help=True), "q", None),
        (View(), "down", View(first=20)),
        (View(first=20), "j", View(first=40)),
        (View(first=40), "page down", View(first=40)),
        (View(first=40), "k", View(first=20)),
        (View(), "page up", View()),
        (View(), "G", View(first=40)),
        (View(first=40), "home", View()),
        (View(), "z", View()),
        (View(), "enter", View()),
        # while something is typed, letters are letters
        (View(typing="sp"), "q", View(typing="spq")),
        (View(typing="sp"), "backspace", View(typing="s")),
        (View(typing=""), "backspace", View(typing="")),
        (View(typing="sp"), "clear", View(typing="")),
        (View(typing="sp ", first=20), "enter", View(search="sp")),
        (View(typing="sp", search="old"), "escape", View(search="old")),
        (View(typing="sp"), "up", View(typing="sp")),
        (View(typing="sp"), "\x01", View(typing="sp")),
    ],
)
def test_what_a_key_makes_of_a_view(view, key, after):
    assert pressed(view, key, OFFER) == after


@pytest.mark.parametrize(
    "view",
    [
        View(),
        View(
            states="stalled,paused", account="main", firing="any", search="a b", sort=Sort.PACE, reverse=True
        ),
        View(first=40),
    ],
)
def test_a_view_asks_what_it_shows(view):
    choice = asked(view.query(20))
    assert ",".join(choice.states) == view.states
    assert (choice.account, choice.firing, choice.search) == (view.account, view.firing, view.search)
    assert (choice.sort, choice.reverse) == (view.sort, view.reverse)
    assert (choice.limit, choice.page) == (20, view.first // 20 + 1)
    assert asked(view.query()).limit is None


def test_a_smaller_terminal_shows_the_same_place():
    assert View(first=40).query(20)["page"] == "3"
    assert View(first=40).query(9)["page"] == "5"  # 37 to 45


def test_the_page_has_every_key_as_the_help_says_it():
    page = (Path(__file__).parent.parent / "docs/cli.md").read_text(encoding="utf-8")
    for key, does in HELP:
        assert f"| `{key}` | {does} |" in page

"""What the keyboard of a terminal sends, as names of keys; and the terminal's state, which is given back.

Names are `up`, `page down`, `enter` or the character itself. Nothing here knows what a key is for.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import termios
import tty
from collections.abc import Iterator

_SEQUENCES = {
    "[A": "up",
    "[B": "down",
    "[C": "right",
    "[D": "left",
    "[H": "home",
    "[F": "end",
    "[1~": "home",
    "[7~": "home",
    "[4~": "end",
    "[8~": "end",
    "[5~": "page up",
    "[6~": "page down",
}
_SINGLE = {
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x15": "clear",
}
# A sequence of the two kinds that keys send, the beginning of one, or any character.
_KEY = re.compile(r"\x1b(\[[0-9;?]*[@-~]|O[A-Za-z])|\x1b(?:\[[0-9;?]*|O)?$|(.)", re.DOTALL)


def split(text: str, *, complete: bool = False) -> tuple[list[str], str]:
    """The keys that a text is made of, and what may be the beginning of another.

    `complete`: nothing has followed for a while, so that an escape is the key and begins nothing.
    """
    found: list[str] = []
    for match in _KEY.finditer(text):
        sequence, char = match.group(1), match.group(2)
        if sequence:
            # In application mode arrows are sent with an O; what is unknown is no key of ours.
            if name := _SEQUENCES.get(sequence.replace("O", "[")):
                found.append(name)
        elif char:
            found.append(_SINGLE.get(char, char))
        elif not complete:
            return found, match.group(0)
        else:
            found.append("escape")
    return found, ""


class Keyboard:
    """A terminal whose keys are read as they are pressed, unechoed."""

    def __init__(self, file: int) -> None:
        self.file = file
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """While it is ours. Signals are still sent by their keys; what was set before is set again."""
        before = termios.tcgetattr(self.file)
        tty.setcbreak(self.file, termios.TCSANOW)
        try:
            yield
        finally:
            termios.tcsetattr(self.file, termios.TCSADRAIN, before)

    def read(self) -> list[str] | None:
        """The keys pressed since; None: the terminal is gone."""
        try:
            sent = os.read(self.file, 1024)
        except OSError:
            return None
        if not sent:
            return None
        found, self._rest = split(self._rest + self._decoder.decode(sent))
        return found

    @property
    def unsure(self) -> bool:
        """Whether something has come that may go on, or be the escape key."""
        return bool(self._rest)

    def settle(self) -> list[str]:
        """What has come is all that comes."""
        found, self._rest = split(self._rest, complete=True)
        return found

"""Whether the configuration's files have changed: by their contents, so that a swapped link or volume counts too.

Blocking reads of small files; the caller keeps them off the event loop.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes of a configuration. Files with secrets are much smaller."""


class Files:
    """The configuration and every file it names, as they were when they were last read."""

    def __init__(self, sources: Iterable[Path]) -> None:
        self._sources = tuple(sorted(sources))
        self._read = self._seen = self._fingerprint()

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files that are looked at."""
        return self._sources

    def look_at(self, sources: Iterable[Path]) -> None:
        """Look at these from now on. What new ones held when they were read is not known: they count as changed."""
        before, self._sources = self._sources, tuple(sorted(sources))
        if self._sources != before:
            self._read = ""

    def about_to_be_read(self) -> None:
        """They are read now; what changes while they are read counts as changed."""
        self._read = self._fingerprint()

    def changed(self) -> bool:
        """Whether they hold something else than was read, the same in this look and the one before.

        Twice the same, because a file that is being written never counts.
        """
        before, self._seen = self._seen, self._fingerprint()
        return before == self._seen != self._read

    def _fingerprint(self) -> str:
        """A hash over the contents; what is no file, or cannot be read, counts as empty.

        A pipe would be waited for, and some devices have no end.
        """
        digest = hashlib.sha256()
        for path in self._sources:
            content = b""
            with contextlib.suppress(OSError, ValueError):  # a name with a NUL in it
                if stat.S_ISREG(path.stat().st_mode):
                    with path.open("rb") as opened:
                        content = opened.read(SIZE_LIMIT + 1)
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

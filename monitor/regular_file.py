"""Files that somebody names in a configuration: regular ones, of a size that can be right. Blocking."""

from __future__ import annotations

import stat
from pathlib import Path


def content(path: Path, most: int) -> bytes:
    """Its bytes. OSError when it is a pipe or a device (which might never end), larger than `most`, or cannot be read."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(
        status.st_mode
    ):  # opening a folder says it better
        raise OSError(0, "it is no regular file")
    with path.open("rb") as opened:
        found = opened.read(most + 1)
    if len(found) > most:
        raise OSError(0, f"it is larger than {most // 1024} KiB")
    return found

"""The state file as it lies on the disk: its lock, who may read it, and the copies that are kept beside it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from datetime import datetime
from pathlib import Path

BUSY_TIMEOUT = 1.0
"""Seconds SQLite waits for a lock that another program holds."""


class StoreError(Exception):
    """The state file cannot be used. The text says which file, why, and what to do."""


def take(path: Path) -> int:
    """Lock the file for this process; the lock goes with the process, however that ends."""
    if not path.parent.is_dir():
        raise StoreError(f"its directory {path.parent} does not exist: create it, or change storage.path")
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        create(path)
    except BlockingIOError:
        os.close(lock)
        raise StoreError(
            "another monitor runs on it; stop that one, or give this one a storage.path of its own"
        ) from None
    except OSError:
        os.close(lock)
        raise
    return lock


def create(path: Path) -> None:
    """Create it, readable by its owner alone. SQLite gives the files it puts beside it the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def connect(path: Path | str) -> sqlite3.Connection:
    """Open it, with transactions begun by hand."""
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)


def back_up(db: sqlite3.Connection, version: int) -> None:
    """Keep the file as the version before us left it, for whoever has to go back."""
    path = Path(next(file for _, name, file in db.execute("PRAGMA database_list") if name == "main"))
    copy = Path(f"{path}.schema-{version}")
    copy.unlink(missing_ok=True)
    create(copy)
    db.execute("VACUUM INTO ?", (str(copy),))


def set_aside(path: Path, now: datetime) -> Path:
    """Move a damaged file away and begin an empty one; where it is now."""
    aside = Path(f"{path}.corrupt-{now:%Y%m%dT%H%M%SZ}")
    for suffix in ("-wal", "-shm", ""):  # the file itself last: until then another try finds it damaged again
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.replace(f"{aside}{suffix}")
    create(path)
    return aside

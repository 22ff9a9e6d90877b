"""What can be read of a process from outside: /proc, its files, its answers."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

_STATE = re.compile(r'^ultravox_monitor_batches\{state="(\w+)"\} (\S+)', re.MULTILINE)
_SKIPPED = re.compile(r"^ultravox_monitor_polls_skipped_total\{[^}]*\} (\S+)", re.MULTILINE)
_POLLS = re.compile(r"^ultravox_monitor_polls_total\{[^}]*\} (\S+)", re.MULTILINE)
_PENDING = re.compile(r"^ultravox_monitor_notifications_pending\{[^}]*\} (\S+)", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024
_WORK = json.dumps({str(number): [number, str(number)] for number in range(1000)})


def process(pid: int) -> dict[str, float]:
    """Memory, threads, open files and processor time so far."""
    root = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines())
    times = (root / "stat").read_text().rpartition(")")[2].split()
    return {
        "memory, MiB": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "open files": len(list((root / "fd").iterdir())),
        "processor": (int(times[11]) + int(times[12])) / _TICKS,
    }


def yardstick() -> float:
    """Milliseconds that always the same work takes, by the clock on the wall: how busy the machine is."""
    began = time.perf_counter()
    for _ in range(20):
        json.loads(_WORK)
    return 1000 * (time.perf_counter() - began)


def files(state: Path) -> dict[str, float]:
    """The state file and its log."""

    def size(path: Path) -> float:
        return path.stat().st_size / MIB if path.exists() else 0.0

    return {"state file, MiB": size(state), "its WAL, MiB": size(state.with_name(state.name + "-wal"))}


def metrics(text: str) -> dict[str, float]:
    """Of a scrape: how many batches are watched, messages wait; and polls so far, skipped ones so far."""
    return {
        "batches": sum(float(value) for _, value in _STATE.findall(text)),
        "pending": sum(map(float, _PENDING.findall(text))),
        "polls": sum(map(float, _POLLS.findall(text))),
        "skipped": sum(map(float, _SKIPPED.findall(text))),
    }


def vitals(path: Path, start: int) -> tuple[list[dict[str, float]], int]:
    """What the daemon has said of itself from this place in the file on; and the place of the rest."""
    text = path.read_bytes()[start:] if path.exists() else b""
    whole = text.rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()], start + len(whole) + bool(whole)

"""`batch-monitor run` with trouble that cannot be made from outside. What, says the environment variable DAYS, as JSON:

    {"names": true}       looking up a host's name takes for ever
    {"write_takes": 60}   so many seconds takes a write of the state file, from the first SIGUSR2 on
    {"block": "/path"}    SIGUSR1 blocks the event loop, and makes this file, until that is taken away

Nothing in monitor/ knows of it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from monitor import app
from monitor.store import file


def install(trouble: dict[str, Any]) -> None:
    """Put it into this process."""
    if trouble.get("names"):
        _silence_name_servers()
    if seconds := trouble.get("write_takes"):
        _slow_disk(seconds)
    if path := trouble.get("block"):
        _block_loop(Path(path))


def _silence_name_servers() -> None:
    ask = socket.getaddrinfo

    def asked(host: str, *args: Any, **options: Any) -> Any:
        if str(host).endswith(".example"):
            threading.Event().wait()
        return ask(host, *args, **options)

    socket.getaddrinfo = asked


def _slow_disk(seconds: float) -> None:
    slow = threading.Event()
    signal.signal(signal.SIGUSR2, lambda *_: slow.set())
    write = file.StateFile.write

    def written(*args: Any, **options: Any) -> None:
        if slow.is_set():
            time.sleep(seconds)
        write(*args, **options)

    file.StateFile.write = written


def _block_loop(path: Path) -> None:
    import asyncio

    start = app.App.start

    def block() -> None:
        path.touch()
        while path.exists():
            time.sleep(0.05)

    async def started(daemon: app.App) -> None:
        await start(daemon)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, block)

    app.App.start = started


def _leave_with(parent: int) -> None:
    """It must not outlive who started it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    install(json.loads(os.environ.get("DAYS", "{}")))
    from monitor.cli import main

    main()

"""A thread for what blocks: in order, one after another, and the end of the process does not wait for it.

The library's pool is waited for, however long a disk that has gone takes to say so. What such an end cuts off,
SQLite undoes at the next start, as after a kill.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Jobs = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]


class Worker(Executor):
    """The thread begins with the first job and ends with `shutdown`."""

    def __init__(self, name: str) -> None:
        self._jobs: _Jobs = SimpleQueue()
        self._thread = Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
        self._over = False

    def submit(self, job: Callable[_P, _T], /, *args: _P.args, **options: _P.kwargs) -> Future[_T]:
        """Run it when those before it are done. RuntimeError after `shutdown`."""
        if self._over:
            raise RuntimeError("it was shut down")
        if self._thread.ident is None:
            self._thread.start()
        future: Future[_T] = Future()
        self._jobs.put((future, partial(job, *args, **options)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - as the library has it
        """Take no more jobs; those that were taken are done, if the process lives so long."""
        if not self._over:
            self._over = True
            self._jobs.put(None)
        if wait and self._thread.ident is not None:
            self._thread.join()


def _work(jobs: _Jobs) -> None:
    while (taken := jobs.get()) is not None:
        future, job = taken
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = job()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for the one who waits
            future.set_exception(error)
        else:
            future.set_result(result)

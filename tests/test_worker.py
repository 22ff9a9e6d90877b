"""The store's thread: in order, and nobody waits for it at the end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import monitor
from monitor.store.worker import Worker


def test_jobs_are_done_in_order_on_one_thread():
    worker, seen = Worker("store"), []
    for number in range(50):
        worker.submit(seen.append, number)
    assert worker.submit(lambda: threading.current_thread().name).result(5) == "store"
    assert seen == list(range(50))
    worker.shutdown()


def test_an_error_is_for_the_one_who_waits_and_the_next_job_is_done():
    worker = Worker("store")
    with pytest.raises(ZeroDivisionError):
        worker.submit(lambda: 1 / 0).result(5)
    assert worker.submit(lambda: "done").result(5) == "done"
    worker.shutdown()


def test_what_nobody_waits_for_any_more_is_not_begun():
    worker, go, seen = Worker("store"), threading.Event(), []
    worker.submit(go.wait)
    late = worker.submit(seen.append, "late")
    assert late.cancel()
    go.set()
    worker.submit(seen.append, "last").result(5)
    assert seen == ["last"]
    worker.shutdown()


def test_after_the_end_nothing_is_taken_and_what_was_taken_is_done():
    worker, seen = Worker("store"), []
    worker.submit(seen.append, 1)
    worker.shutdown()
    assert seen == [1]
    with pytest.raises(RuntimeError):
        worker.submit(seen.append, 2)
    worker.shutdown()
    Worker("idle").shutdown()


def test_the_process_ends_while_a_job_hangs():
    child = (
        "import time; from monitor.store.worker import Worker; worker = Worker('store');"
        "worker.submit(time.sleep, 600); worker.shutdown(wait=False)"
    )
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", child], cwd=Path(monitor.__file__).parents[1], timeout=30, check=False
    )
    assert ended.returncode == 0
    assert time.monotonic() - began < 20

"""What a scrape costs beside the library's rendering of the same, and how long others wait for their turn meanwhile."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from statistics import median

from benchmarks.internals import Rendering
from benchmarks.polls import FOUND, SELDOM
from benchmarks.processes import Setting, Size, watching
from benchmarks.report import Row, limit

AT_REST = 0.5
"""Seconds in which it is looked at how long an answer takes while nobody scrapes."""


def scrape(*, quick: bool) -> list[Row]:
    """CPU time of a rendering, best of several, each of batches that have all moved; then the whole daemon."""
    size = Size(2, 1, 250) if quick else FOUND
    subject = f"scrape: {size.count:,} batches, all series"
    rendering = Rendering(size)
    ours, library = [], []
    for _ in range(2 if quick else 5):  # in turn, so that a noisy moment hits both
        rendering.move()
        begin = time.process_time()
        deque(rendering.ours(), maxlen=0)
        ours.append(time.process_time() - begin)
        found = rendering.families()
        begin = time.process_time()
        rendering.library(found)
        library.append(time.process_time() - begin)
    del rendering
    peer = "generate_latest, made families, no gzip"
    return [
        Row(
            subject, "CPU to render it, gzip included", min(ours) * 1e3, "ms", peer, min(library) * 1e3, 0.15
        ),
        *_daemon(subject, size, quick=quick),
    ]


def _daemon(subject: str, size: Size, *, quick: bool) -> list[Row]:
    """Polled once an hour: what blocks the loop is the scrape, not a page that is judged."""
    with watching(Setting(size, interval="1h", outcomes_interval=SELDOM)) as scene:
        time.sleep(3)
        waited, lasted, used, rest = [], [], [], []
        for _ in range(2 if quick else 9):
            rest.append(max(_answer_times(scene.daemon.address, None)))
            before, begin = scene.daemon.cpu(), time.perf_counter()
            with socket.create_connection(_host_port(scene.daemon.address)) as scraper:
                scraper.sendall(
                    b"GET /metrics HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
                )
                waited.append(max(_answer_times(scene.daemon.address, scraper)))
            lasted.append(time.perf_counter() - begin)
            used.append(scene.daemon.cpu() - before)
    during = "longest wait for /-/healthy during a scrape, median"
    return [
        limit(subject, during, median(waited) * 1e3, "ms", 25),
        Row(subject, "the same without a scrape", median(rest) * 1e3, "ms"),
        Row(subject, "a scrape of the daemon lasts, median", median(lasted) * 1e3, "ms"),
        Row(subject, "CPU of it, those answers included, median", median(used) * 1e3, "ms"),
    ]


def _answer_times(address: str, scraper: socket.socket | None) -> list[float]:
    """How long each answer to /-/healthy took, one asked after the other, until the scrape is over. Seconds."""
    found, until = [], time.perf_counter() + AT_REST
    with socket.create_connection(_host_port(address)) as asking:
        while scraper is not None or time.perf_counter() < until:
            begin = time.perf_counter()
            asking.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: bench\r\n\r\n")
            answered = False
            while not answered:
                waiting = [asking] if scraper is None else [asking, scraper]
                for one in select.select(waiting, [], [])[0]:
                    answered |= one is asking and bool(asking.recv(4096))
                    if one is scraper and not one.recv(1 << 20):
                        scraper = None
            found.append(time.perf_counter() - begin)
            time.sleep(0.001)
    return found


def _host_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)

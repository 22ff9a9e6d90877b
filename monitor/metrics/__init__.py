"""The metrics: what Prometheus reads. Nothing here is awaited, so a scrape can be rendered on another thread."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from monitor.metrics.families import families
from monitor.metrics.instruments import API_CODES, HeartbeatSeries, Instruments, code_label
from monitor.model import Snapshot

__all__ = ["API_CODES", "HeartbeatSeries", "Instruments", "code_label", "families", "render"]


class _Scrape:
    """What the library's renderers ask for: something that collects."""

    def __init__(self, snapshot: Snapshot, instruments: Instruments) -> None:
        self._snapshot = snapshot
        self._instruments = instruments

    def collect(self) -> Iterator[Metric]:
        yield from families(self._snapshot)
        yield from self._instruments.registry.collect()


def render(
    snapshot: Snapshot, instruments: Instruments, *, accept: str, compressed: bool
) -> tuple[bytes, str]:
    """The exposition in the format that `accept` asks for, and its content type. Takes a while: not for the loop."""
    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:  # of a version that is no number the library makes text, and compares it with numbers
        encode, content_type = choose_encoder("")
    body = encode(_Scrape(snapshot, instruments))
    # Level 1: exposition text is so repetitive that more costs time and saves next to nothing.
    return (gzip.compress(body, 1, mtime=0) if compressed else body), content_type

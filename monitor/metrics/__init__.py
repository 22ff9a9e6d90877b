"""The metrics: what Prometheus reads. Nothing here is awaited, so a scrape can be written on another thread."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.exposition import choose_encoder

from monitor.metrics.exposition import PIECE, exposition
from monitor.metrics.families import families
from monitor.metrics.instruments import API_CODES, HeartbeatSeries, Instruments, code_label
from monitor.model import Snapshot

__all__ = [
    "API_CODES",
    "PIECE",
    "HeartbeatSeries",
    "Instruments",
    "code_label",
    "families",
    "pieces",
    "render",
]


def pieces(
    snapshot: Snapshot, instruments: Instruments, *, accept: str, compressed: bool
) -> tuple[Iterator[bytes], str]:
    """The exposition in the format that `accept` asks for, in pieces of PIECE bytes or a little more, and its content type.

    The last piece is smaller. Each takes some milliseconds: not for the loop.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:  # of a version that is no number the library makes text, and compares it with numbers
        encode, content_type = choose_encoder("")
    return exposition(snapshot, instruments.registry, encode, compressed=compressed), content_type


def render(
    snapshot: Snapshot, instruments: Instruments, *, accept: str, compressed: bool
) -> tuple[bytes, str]:
    """The same as a whole, which with thousands of batches is tens of megabytes."""
    found, content_type = pieces(snapshot, instruments, accept=accept, compressed=compressed)
    return b"".join(found), content_type

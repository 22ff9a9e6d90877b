"""The text of a scrape that we write ourselves is the library's, byte for byte, whatever there is to tell and in every format."""

from __future__ import annotations

import importlib.util
import sys
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from isal import isal_zlib
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString
from samples import NOW, PROMETHEUS_3, account, batch_key, observation, status

from monitor.metrics import families
from monitor.metrics.exposition import PIECE, Collected, exposition, number
from monitor.model import (
    AlertName,
    AlertState,
    Assessment,
    BatchKey,
    Failing,
    FailureReason,
    Observation,
    Outcomes,
    Phase,
    Progress,
    Severity,
    Snapshot,
    State,
    Status,
    Target,
)

FORMATS = (
    "",
    "text/plain;version=1.0.0",
    *(f"text/plain;version=1.0.0;escaping={how}" for how in ("allow-utf-8", "underscores", "dots", "values")),
    PROMETHEUS_3,
    "application/openmetrics-text",
    *(
        f"application/openmetrics-text;version={version};escaping={how}"
        for version in ("1.0.0", "2.0.0")
        for how in ("allow-utf-8", "underscores", "dots", "values")
    ),
)

OURS = CollectorRegistry()
Counter("polls", "What is not of the snapshot.", registry=OURS).inc(3)


def ours(snapshot, accept="", *, compressed=False):
    encode, _ = choose_encoder(accept)
    return list(exposition(snapshot, OURS, encode, compressed=compressed))


def of_the_library(snapshot, accept=""):
    encode, _ = choose_encoder(accept)
    return encode(Collected([*families(snapshot), *OURS.collect()]))


texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n\r\0%{},='), max_size=8)
instants = st.datetimes(timezones=st.just(UTC))
numbers = st.floats() | st.floats(0, 10_000)
counts = st.integers(0, 5000) | st.integers(-(2**70), 2**70)
names = st.sampled_from(("team", "Zone", "_", "a", "agent", "batch_id", "z9", "5 %"))
labels = st.dictionaries(names, texts, max_size=4).map(lambda found: tuple(sorted(found.items())))
observations = st.builds(
    Observation,
    at=instants,
    created=instants,
    total=counts,
    completed=counts,
    ended_at=st.none() | instants,
    window_start=st.none() | instants,
    window_end=st.none() | instants,
    paused=st.booleans(),
    throttle=st.none() | texts,
)
alerts = st.builds(
    AlertState,
    name=st.sampled_from(AlertName),
    phase=st.sampled_from(Phase),
    since=instants,
    severity=st.sampled_from(Severity),
    labels=st.tuples(labels, texts).map(lambda both: (*both[0], ("alertname", both[1]))),
)
statuses = st.builds(
    Status,
    target=st.builds(Target, texts, st.builds(BatchKey, texts, texts), labels=labels),
    batch=texts,
    agent=texts,
    assessment=st.builds(
        Assessment,
        state=st.sampled_from(State),
        why=st.just(""),
        completion_ratio=st.none() | numbers,
        idle_seconds=st.none() | numbers,
        stall_after_seconds=st.none() | numbers,
        calls_per_second=st.none() | numbers,
        estimated_end=st.none() | instants,
        projected_missed=st.none() | counts,
    ),
    progress=st.none()
    | st.builds(
        Progress,
        first_seen_at=instants,
        last=observations,
        best_completed=counts,
        last_progress_at=st.none() | instants,
    ),
    failing=st.none() | st.just(Failing(NOW, 1, 0, FailureReason.TIMEOUT, "no answer")),
    last_success_at=st.none() | instants,
    last_poll_at=st.none() | instants,
    next_poll_at=st.none() | instants,
    outcomes=st.none() | st.builds(Outcomes, instants, counts, counts, counts, counts, counts),
    alerts=st.lists(alerts, max_size=2).map(tuple),
)
snapshots = st.builds(
    Snapshot,
    st.just(NOW),
    batches=st.lists(statuses, max_size=4).map(tuple),
    accounts=st.lists(alerts, max_size=2).map(lambda some: (account(alerts=tuple(some)),)),
)


@given(snapshots, st.sampled_from(FORMATS))
@example(Snapshot(NOW), "")
def test_whatever_there_is_to_tell_is_told_as_the_library_tells_it(snapshot, accept):
    assert b"".join(ours(snapshot, accept)) == of_the_library(snapshot, accept)


def many(count):
    """Batches of several agents, each of which is unlike the one before."""
    return Snapshot(
        NOW,
        tuple(
            status(
                observation(completed=number, ended_at=NOW if number % 3 else None),
                key=batch_key(number)._replace(agent_id=f"agent-{number % 7}"),
                outcomes=Outcomes(NOW, number, 0, 0, 0, 0) if number % 2 else None,
                alerts=(firing(number),) if number % 5 == 0 else (),
            )
            for number in range(count)
        ),
        (account(),),
    )


def firing(number):
    told = (("alertname", "BatchStalled"), ("batch_id", f"{number}"))
    return AlertState(AlertName.BATCH_STALLED, Phase.FIRING, NOW, Severity.WARNING, labels=told)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
@pytest.mark.parametrize("accept", FORMATS)
def test_so_are_more_batches_than_are_written_in_one_go(count, accept):
    snapshot = many(count)
    assert b"".join(ours(snapshot, accept)) == of_the_library(snapshot, accept)


@pytest.mark.parametrize("compressed", [False, True])
def test_no_piece_is_small_but_the_last_and_none_is_large(compressed):
    *pieces, last = ours(many(4000 if compressed else 400), compressed=compressed)
    assert len(pieces) > 1
    assert all(PIECE <= len(piece) < 3 * PIECE for piece in pieces)
    assert len(last) < PIECE


def test_nothing_is_made_before_it_is_asked_for():
    """Who is slow to take it, or leaves, costs what he has taken."""
    asked = []

    class Batches(tuple):
        __slots__ = ()

        def __getitem__(self, part):
            asked.append(part)
            return super().__getitem__(part)

    batches = Batches(many(400).batches)
    made = exposition(Snapshot(NOW, batches), OURS, choose_encoder("")[0], compressed=False)
    assert not asked
    next(made)
    first = len(asked)
    next(made)
    assert 0 < first < len(asked) < 10


@given(snapshots, st.sampled_from(FORMATS))
def test_gzip_is_one_member_of_the_same_text(snapshot, accept):
    packed = b"".join(ours(snapshot, accept, compressed=True))
    member = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert member.decompress(packed) == b"".join(ours(snapshot, accept))
    assert (member.eof, member.unused_data) == (True, b"")


@pytest.mark.parametrize("library", [zlib, isal_zlib])
def test_so_is_gzip_of_many_pieces_whoever_makes_it(library, monkeypatch):
    written = importlib.import_module("monitor.metrics.exposition")
    monkeypatch.setattr(written, "compressobj", library.compressobj)
    snapshot = many(4000)
    packed = b"".join(ours(snapshot, compressed=True))
    member = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert member.decompress(packed) == b"".join(ours(snapshot))
    assert (member.eof, member.unused_data) == (True, b"")


def test_without_isal_zlib_makes_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    written = importlib.import_module("monitor.metrics.exposition")
    spec = importlib.util.spec_from_file_location("without_isal", written.__file__)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.compressobj is zlib.compressobj


def test_half_a_surrogate_costs_a_question_mark_and_not_the_scrape():
    odd = status(batch="a\ud800b", alerts=(replace(firing(1), labels=(("alertname", "A\udfff"),)),))
    text = b"".join(ours(Snapshot(NOW, (odd,))))
    assert b'batch="a?b"' in text
    assert b'alert_firing{alert="A?"}' in text


@given(numbers | counts | st.integers(0, 2**53).map(lambda micros: micros / 1e6))
@example(-0.0)
@example(999_999)
@example(1_000_000)
@example(999_999.9999999999)
@example(1e16)
@example(5e-324)
def test_a_number_is_written_as_the_library_writes_it(value):
    assert number(value) == floatToGoString(value)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@settings(max_examples=500)
@given(instants | st.integers(-(10**16), 10**16).map(lambda micros: EPOCH + timedelta(microseconds=micros)))
@example(EPOCH)
@example(EPOCH + timedelta(seconds=10**9))
@example(EPOCH + timedelta(seconds=2 * 10**9))
@example(EPOCH + timedelta(seconds=10**9, microseconds=1))
@example(EPOCH + timedelta(seconds=2**32))
@example(EPOCH + timedelta(seconds=2**32, microseconds=-1))
@example(EPOCH + timedelta(seconds=2**33, microseconds=1))
def test_an_instant_is_written_as_the_library_writes_its_seconds(at):
    assert number(at) == floatToGoString(at.timestamp())

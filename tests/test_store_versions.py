"""State files that earlier versions wrote: tests/data/state holds them as SQL, written by those versions and never edited.

What became of a file of schema 1 is in test_store.py.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path

import pytest
from receivers import labels
from samples import KEY, NOW, observation

from monitor.model import (
    AlertName,
    Changes,
    Curve,
    FailureReason,
    Mute,
    Phase,
    Progress,
    Severity,
    State,
    StateChange,
)
from monitor.store import AccountRecord, BatchRecord
from monitor.store.file import StateFile
from monitor.store.records import BATCH, decode, packed

STATES = Path(__file__).parent / "data" / "state"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "monitor.db"


def restored(name: str, path: Path) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript((STATES / name).read_text())
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


def test_a_file_from_before_there_were_curves_and_changes_of_state_is_read_in_full(path, tmp_path):
    restored("schema-2.sql", path)
    file = StateFile(path)
    contents, damage = file.open(NOW)
    assert damage is None
    [batch] = contents.batches
    assert (batch.key, batch.account, batch.batch) == (KEY, "main", "spring-renewals")
    progress = batch.progress
    assert (progress.best_completed, progress.last.total, progress.expected_seconds) == (118, 400, 60.0)
    assert progress.samples == Curve.of([(0.0, 100), (60.0, 118)])
    assert (batch.failing.reason, batch.failing.count) == (FailureReason.TIMEOUT, 2)
    [alert] = batch.alerts
    assert (alert.name, alert.phase, alert.severity) == (
        AlertName.BATCH_STALLED,
        Phase.FIRING,
        Severity.WARNING,
    )
    assert alert.labels == tuple(sorted(labels(batch_id="b1")))
    assert batch.outcomes.made == 118
    assert (progress.curve, batch.changes) == (Curve(), Changes())
    since = NOW - timedelta(days=2)
    assert contents.accounts == (
        AccountRecord("main", since, NOW, active_calls=3, allowed_concurrent_calls=5),
    )
    assert [(row.id, row.settled) for row in contents.notifications] == [("id-1", True), ("id-2", False)]
    assert [message.receiver for message in contents.messages] == ["crm"]
    assert contents.mutes == (Mute("b2", NOW + timedelta(hours=3)),)

    file.write(contents.batches, contents.accounts, contents.notifications, prune_at=NOW)
    file.close()
    again, damage = StateFile(path).open(NOW)
    assert (again, damage) == (contents, None)
    assert [kept.name for kept in tmp_path.glob("*.schema-*")] == ["monitor.db.schema-2"], (
        "for whoever has to go back"
    )


def test_curves_and_changes_of_schema_2_are_packed_as_they_are():
    older = BATCH.dump_python(
        BatchRecord(KEY, "main", "spring", Progress(NOW, observation(), 118)), mode="json"
    )
    older["progress"] |= {"curve": [[1795435200, 100], [1795435260, 118]], "samples": []}
    older["changes"] = [{"at": "2026-11-23T12:00:00.25Z", "state": "stalled", "why": "no call for 15 min"}]
    record = decode(BATCH, packed(json.dumps(older)))
    progress, [change] = record.progress, record.changes
    assert change == StateChange(NOW.replace(microsecond=250_000), State.STALLED, "no call for 15 min")
    assert progress.curve == Curve.of([(1795435200, 100), (1795435260, 118)])
    assert progress.samples == Curve()
    assert decode(BATCH, packed(json.dumps(older | {"progress": None}))).progress is None


@pytest.mark.parametrize("noun", [BatchRecord, AccountRecord, Progress])
def test_what_was_remembered_later_than_the_first_version_did_may_be_missing(noun):
    """A new field without a default would make every file written before it a damaged one."""
    first = {
        BatchRecord: {"key", "account", "batch"},
        AccountRecord: {"name", "watched_since"},
        Progress: {"first_seen_at", "last", "best_completed"},
    }
    needed = {one.name for one in fields(noun) if one.default is one.default_factory is MISSING}
    assert needed == first[noun]

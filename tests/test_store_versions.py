"""State files that earlier versions wrote: tests/data/state holds them as SQL, written by those versions and never edited.

What became of a file of schema 1 is in test_store.py.
"""

from __future__ import annotations

import sqlite3
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path

import pytest
from receivers import labels
from samples import KEY, NOW

from monitor.model import AlertName, FailureReason, Mute, Phase, Progress, Sample, Severity
from monitor.store import AccountRecord, BatchRecord
from monitor.store.file import StateFile

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
    assert progress.samples == (Sample(0.0, 100), Sample(60.0, 118))
    assert (batch.failing.reason, batch.failing.count) == (FailureReason.TIMEOUT, 2)
    [alert] = batch.alerts
    assert (alert.name, alert.phase, alert.severity) == (
        AlertName.BATCH_STALLED,
        Phase.FIRING,
        Severity.WARNING,
    )
    assert alert.labels == tuple(sorted(labels(batch_id="b1")))
    assert batch.outcomes.made == 118
    assert (progress.curve, batch.changes) == ((), ())
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
    assert not list(tmp_path.glob("*.schema-*")), "the tables are the same: nothing was rewritten"


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

"""What had to be told: by the state file of a daemon that was killed, and by what the campaigns remember.

The two know nothing of each other. The state file is read as text, from a copy, so that the next daemon finds it
as it was left: what was committed by anyone, ever, is due.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from chaos.campaigns import Campaign, Span, within

Labels = tuple[tuple[str, str], ...]

DETECTED_WITHIN = timedelta(seconds=8)
"""Watched for so long without an interruption, a stall must be told: `after`, as much again after a gap, some polls."""

ENDS = ("BatchEnded", "BatchEndedIncomplete")


@dataclass(frozen=True)
class Row:
    """A notification that was committed. An episode is one firing of one alert: its labels and its start."""

    id: str
    receiver: str
    kind: str  # firing, reminder, resolved
    labels: Labels
    starts_at: datetime
    created_at: datetime
    one_shot: bool
    superseded_by: str | None
    settled: bool
    dropped: bool

    @property
    def episode(self) -> tuple[Labels, datetime]:
        return self.labels, self.starts_at

    def __str__(self) -> str:
        said = dict(self.labels)
        return (
            f"{self.created_at:%H:%M:%S.%f} {self.receiver} {said['alertname']} {self.kind} of the episode of "
            f"{self.starts_at:%H:%M:%S.%f}, batch {said.get('batch_id', '-')[:8]}, {self.id[:8]}"
        )


@dataclass
class Record:
    """All that state files ever held."""

    rows: dict[str, Row] = field(default_factory=dict)
    under_way: int = 0  # messages, in the latest
    firing: list[str] = field(default_factory=list)  # alerts but one-shots, in the latest
    wrong: list[str] = field(default_factory=list)

    @property
    def pending(self) -> list[Row]:
        return [row for row in self.rows.values() if not row.settled]

    def read(self, path: Path) -> None:
        """Take up what a state file holds. A notification that was there and is not any more is wrong."""
        if not path.exists() or not path.stat().st_size:
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.db"
            for suffix in ("", "-wal"):
                if (part := Path(f"{path}{suffix}")).exists():
                    shutil.copy(part, f"{copy}{suffix}")
            db = sqlite3.connect(copy)
            self._take(db)
            db.close()

    def look(self, path: Path) -> None:
        """The same of a daemon that runs."""
        db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        self._take(db)
        db.close()

    def _take(self, db: sqlite3.Connection) -> None:
        if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'notifications'").fetchone()[0]:
            return
        db.execute("BEGIN")
        found = [_row(json.loads(text)) for (text,) in db.execute("SELECT record FROM notifications")]
        self.under_way = db.execute("SELECT count(*) FROM messages").fetchone()[0]
        subjects = [json.loads(text) for (text,) in db.execute("SELECT record FROM batches")]
        subjects += [json.loads(text) for (text,) in db.execute("SELECT record FROM accounts")]
        db.execute("ROLLBACK")
        rows = {row.id: row for row in found}
        self.wrong += [
            f"is no longer in the state file: {row}" for name, row in self.rows.items() if name not in rows
        ]
        self.wrong += [
            f"was settled, and is not any more: {row}" for name, row in rows.items() if self._reopened(row)
        ]
        self.rows = rows
        states = [state for subject in subjects for state in subject["alerts"] if state["phase"] == "firing"]
        fires = {(row.receiver, row.episode) for row in found if row.kind == "firing"}
        for state in states:
            episode = (_labels(state["labels"]), _instant(state["since"]))
            self.wrong += [
                f"fires, and there is no notification of it for {receiver}: {state['name']} since {state['since']}"
                for receiver in state["receivers"]
                if (receiver, episode) not in fires
            ]
        self.firing = [state["name"] for state in states if state["name"] not in ENDS]

    def _reopened(self, row: Row) -> bool:
        before = self.rows.get(row.id)
        return before is not None and before.settled and not row.settled


def _row(record: dict[str, Any]) -> Row:
    settled = [record["delivered_at"], record["dropped_at"], record["overtaken_at"]]
    return Row(
        id=record["id"],
        receiver=record["receiver"],
        kind=record["kind"],
        labels=_labels(record["alert"]["labels"]),
        starts_at=_instant(record["alert"]["starts_at"]),
        created_at=_instant(record["created_at"]),
        one_shot=record["one_shot"],
        superseded_by=record["superseded_by"],
        settled=any(settled),
        dropped=record["dropped_at"] is not None,
    )


def _labels(pairs: list[list[str]]) -> Labels:
    """As receivers see them: an empty label is none."""
    return tuple(sorted((name, value) for name, value in pairs if value))


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@dataclass(frozen=True)
class Life:
    """One process. `asked_at`: its first request to the API; None: it was killed before."""

    began: datetime
    asked_at: datetime | None
    until: datetime
    how: str
    calm: bool = True  # the disk worked


@dataclass(frozen=True)
class Expected:
    """Something that happened to a batch: one of `names` has to be told with a start in this time.

    `must` False: it may have passed unseen, but not be told twice.
    """

    batch_id: str
    names: tuple[str, ...]
    since: datetime
    until: datetime
    must: bool
    instead: tuple[str, ...] = ()  # one of these, told of the same batch by then, says more
    blind: tuple[
        Span, ...
    ] = ()  # told in one of these, it may have the other name: by the counts, it is complete

    def __str__(self) -> str:
        return f"{' or '.join(self.names)} of batch {self.batch_id[:8]}, {self.since:%H:%M:%S} to {self.until:%H:%M:%S}"


def expected(
    campaigns: list[Campaign], account: list[Span], lives: list[Life], over: datetime
) -> tuple[list[Expected], list[Expected]]:
    """The ends, each to be told exactly once, and the stalls, each to be told at least once."""
    ends, stalls = [], []
    for one in campaigns:
        for end in one.ends:
            until = end.until or over
            names = (ENDS[1] if end.unmade or end.failed_ratio else ENDS[0],)
            must = end.until is None or _watched(end.at, until, one.spans, account, lives)
            blind = tuple(account) if end.failed_ratio else ()  # its outcomes could perhaps not be read
            ends.append(Expected(one.batch_id, names, end.at, until, must=must, blind=blind))
        for span in one.spans:
            if span.what == "stalled":
                until = (span.until or over) + timedelta(seconds=3)
                must = _watched(span.since, span.until or over, one.spans, account, lives)
                instead = (ENDS[1], "BatchGone", "BatchOverdue")
                stalls.append(Expected(one.batch_id, ("BatchStalled",), span.since, until, must, instead))
    return ends, stalls


def _watched(
    since: datetime, until: datetime, spans: list[Span], account: list[Span], lives: list[Life]
) -> bool:
    """Whether one process could see it long enough, with nothing else in the way."""
    for life in lives:
        if life.asked_at is None or not life.calm:
            continue
        first, last = max(life.asked_at, since), min(life.until, until)
        unseen = [span for span in spans if span.what in {"gone", "unreadable"}]
        if last - first >= DETECTED_WITHIN and not within([*account, *unseen], first, last, margin=3):
            return True
    return False

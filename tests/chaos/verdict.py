"""What receivers took, against what had to be told: lost, out of order, twice, and how late.

A webhook's messages with one Idempotency-Key are one message: what is judged is its first arrival. Alertmanager
takes states: what is judged is what it would see of each alert.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from chaos.campaigns import within
from chaos.receivers import Mood, Post
from chaos.truth import ENDS, Expected, Labels, Life, Row

Episode = tuple[Labels, datetime]
OUTCOMES_WAIT = timedelta(seconds=11)  # how long before it is told an end may have asked for its outcomes
GROUP_WAIT = timedelta(seconds=1)  # as the configuration says


@dataclass(frozen=True)
class Telling:
    """One alert in one message, as its receiver understands it."""

    at: datetime
    what: str
    starts_at: datetime
    key: str | None

    def __str__(self) -> str:
        key = f" in {self.key[:8]}" if self.key else ""
        return f"    {self.at:%H:%M:%S.%f} {self.what} of the episode of {self.starts_at:%H:%M:%S.%f}{key}"


@dataclass
class Verdict:
    """What is to be said of one receiver, or of all of them."""

    taken: int = 0  # requests
    due: int = 0
    delivered: int = 0
    superseded: int = 0
    lost: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)
    left_open: list[str] = field(default_factory=list)
    same_key: int = 0
    other_key: list[str] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)  # seconds

    @property
    def wrong(self) -> list[str]:
        """All that must not be; `other_key` is judged by who knows of the disk."""
        return [
            f"{name}: {one}"
            for name in ("lost", "out_of_order", "untrue", "left_open")
            for one in getattr(self, name)
        ]

    def add(self, other: Verdict) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class _Hearing:
    """What a receiver has understood so far."""

    verdict: Verdict = field(default_factory=Verdict)
    told: dict[Episode, list[tuple[Post, str]]] = field(default_factory=dict)
    latest: dict[Labels, datetime] = field(default_factory=dict)
    open: dict[Labels, datetime] = field(default_factory=dict)
    sequences: dict[Labels, list[Telling]] = field(default_factory=dict)

    def note(self, post: Post, labels: Labels, starts_at: datetime, what: str) -> None:
        self.told.setdefault((labels, starts_at), []).append((post, what))
        self.sequences.setdefault(labels, []).append(Telling(post.at, what, starts_at, post.key))

    def said(self, why: str, labels: Labels) -> str:
        """A mistake, with all that was told of this alert."""
        named = dict(labels)
        head = f"{why}: {named.get('alertname')} of batch {named.get('batch_id', '-')[:8]}"
        return "\n".join([head, *map(str, self.sequences.get(labels, ()))])


def judge(
    name: str,
    posts: Sequence[Post],
    rows: Iterable[Row],
    ends: Iterable[Expected],
    stalls: Iterable[Expected],
    lives: Sequence[Life],
    *,
    state: bool,
    wants: Sequence[str] | None = None,
) -> Verdict:
    """All that is to be said of one receiver. `state`: it is an Alertmanager. `wants`: no other alerts."""
    if wants is not None:
        ends = [end for end in ends if set(end.names) <= set(wants)]
        stalls = [replace(one, instead=tuple(set(one.instead) & set(wants))) for one in stalls]
    own = [row for row in rows if row.receiver == name]
    hearing = _states(posts) if state else _messages(posts, own)
    hearing.verdict.taken = len(posts)
    _lost(hearing, own, lives, state=state)
    _unrecorded(hearing, own)
    _events(hearing, ends, state=state, wants=wants)
    _stalls(hearing, list(stalls))
    for labels in hearing.open:
        hearing.verdict.left_open.append(hearing.said("fires on, and nothing does any more", labels))
    verdict = hearing.verdict
    for kind in ("lost", "out_of_order", "untrue", "left_open", "other_key"):
        setattr(verdict, kind, [f"{name}: {one}" for one in getattr(verdict, kind)])
    return verdict


# What is heard


def _messages(posts: Sequence[Post], rows: list[Row]) -> _Hearing:
    hearing = _Hearing()
    bodies: dict[str, bytes] = {}
    reminders = Counter(row.episode for row in rows if row.kind == "reminder")
    for post in posts:
        if post.key is None:
            hearing.verdict.untrue.append("a message without an Idempotency-Key")
            continue
        if post.key in bodies:
            hearing.verdict.same_key += 1
            if bodies[post.key] != post.body:
                hearing.verdict.untrue.append(f"another body under the same key {post.key}")
            continue
        bodies[post.key] = post.body
        alerts = json.loads(post.body)["alerts"]
        news = [_hear(hearing, post, alert) for alert in alerts]
        if not any(news):
            # It says nothing new: then it is a reminder, of which each may be told once.
            reminded = [episode for episode in map(_episode, alerts) if reminders[episode] > 0]
            reminders.subtract(set(reminded))
            if not reminded:
                labels, _ = _episode(alerts[0])
                hearing.verdict.other_key.append(
                    hearing.said(f"nothing new in message {post.key[:8]}", labels)
                )
    return hearing


def _episode(alert: dict[str, Any]) -> Episode:
    return tuple(sorted(alert["labels"].items())), datetime.fromisoformat(alert["startsAt"])


def _hear(hearing: _Hearing, post: Post, alert: dict[str, Any]) -> bool:
    """One alert of a new message. Returns whether it is news."""
    labels, starts_at = _episode(alert)
    latest, is_open = hearing.latest.get(labels), labels in hearing.open
    known = latest is not None and starts_at == latest
    belated = alert["annotations"].get("summary", "").startswith("was over before it was told")
    what = "fired and is over" if belated else alert["status"]
    hearing.note(post, labels, starts_at, what)
    mistakes = hearing.verdict.out_of_order
    if dict(labels)["alertname"] in ENDS:
        if known:
            hearing.verdict.other_key.append(hearing.said("told twice under two keys", labels))
        elif latest is not None and starts_at < latest:
            mistakes.append(hearing.said("an older one after a newer one", labels))
        hearing.latest[labels] = max(starts_at, latest or starts_at)
        return True
    if latest is not None and starts_at < latest:
        mistakes.append(hearing.said("an older one after a newer one", labels))
        return True
    hearing.latest[labels] = starts_at
    if not known and is_open:
        mistakes.append(hearing.said("the end of the one before was not told", labels))
    if alert["status"] == "firing":
        if known and not is_open:
            mistakes.append(hearing.said("fires again after its end", labels))
        hearing.open[labels] = starts_at
        return not known
    if known and not is_open:
        hearing.verdict.other_key.append(hearing.said("its end told twice under two keys", labels))
    if not known and not belated:
        mistakes.append(hearing.said("an end without a beginning", labels))
    hearing.open.pop(labels, None)
    return True


def _states(posts: Sequence[Post]) -> _Hearing:
    hearing = _Hearing()
    for post in posts:
        for alert in json.loads(post.body):
            labels, starts_at = _episode(alert)
            latest = hearing.latest.get(labels)
            resolved = datetime.fromisoformat(alert["endsAt"]) <= post.at
            what = "resolved" if resolved else "firing"
            same = hearing.sequences.get(labels, [])[-1:]
            hearing.told.setdefault((labels, starts_at), []).append((post, what))
            if same and (same[0].what, same[0].starts_at) == (what, starts_at):
                continue  # as Prometheus repeats it
            hearing.sequences.setdefault(labels, []).append(Telling(post.at, what, starts_at, None))
            mistakes = hearing.verdict.out_of_order
            if latest is not None and starts_at < latest:
                mistakes.append(hearing.said("an older one after a newer one", labels))
            elif starts_at == latest and not resolved:
                mistakes.append(hearing.said("fires again after its end", labels))
            elif starts_at != latest and resolved:
                mistakes.append(hearing.said("an end without a beginning", labels))
            hearing.latest[labels] = max(starts_at, latest or starts_at)
            if resolved or dict(labels)["alertname"] in ENDS:
                hearing.open.pop(labels, None)
            else:
                hearing.open[labels] = starts_at
    return hearing


# What was to be heard


def _lost(hearing: _Hearing, rows: list[Row], lives: Sequence[Life], *, state: bool) -> None:
    verdict = hearing.verdict
    for row in rows:
        verdict.due += 1
        post = _told(hearing, row, state=state)
        if post is not None:
            verdict.delivered += 1
            held = state and row.kind == "resolved" and _told_late(hearing, row)
            late = None if held or row.kind == "reminder" else _delay(row, post, lives)
            verdict.delays += [] if late is None else [late]
        elif _overtaken(hearing, row, rows, state=state):
            verdict.superseded += 1
        else:
            verdict.lost.append(hearing.said(f"never told: {row}", row.labels))


def _unrecorded(hearing: _Hearing, rows: list[Row]) -> None:
    """Nothing may be told that a restart would know nothing of."""
    recorded = {row.episode for row in rows}
    for labels, starts_at in hearing.told:
        if (labels, starts_at) not in recorded:
            hearing.verdict.untrue.append(
                hearing.said(f"told, and never committed: {starts_at:%H:%M:%S.%f}", labels)
            )


def _told_late(hearing: _Hearing, row: Row) -> bool:
    """Alertmanager was told of the beginning after the end: the end then waits."""
    return any(post.at >= row.created_at for post, what in hearing.told[row.episode] if what == "firing")


def _told(hearing: _Hearing, row: Row, *, state: bool) -> Post | None:
    """The first that told it."""
    for post, what in hearing.told.get(row.episode, ()):
        if (row.kind, what) in {("resolved", "firing"), ("firing", "resolved")}:
            continue
        if row.kind == "reminder" and what == "firing" and post.at < row.created_at:
            continue
        return post
    return None


def _overtaken(hearing: _Hearing, row: Row, rows: list[Row], *, state: bool) -> bool:
    """Whether something that says more was told in its place. What the state file says of that is not believed."""
    if state and hearing.latest.get(row.labels, row.starts_at) > row.starts_at:
        return True  # its state was overwritten by the next one
    ends = [one for one in rows if one.episode == row.episode and one.kind == "resolved"]
    if not ends or ends[0].superseded_by is None or (row.kind == "resolved" and row.episode in hearing.told):
        return False
    subject = {dict(row.labels).get(name) for name in ("batch_id", "account")}
    by = [
        one
        for one in rows
        if one.kind == "firing"
        and one.created_at <= ends[0].created_at
        and dict(one.labels)["alertname"] == ends[0].superseded_by
        and {dict(one.labels).get(name) for name in ("batch_id", "account")} == subject
    ]
    if not by:
        return False
    latest = max(by, key=lambda one: one.created_at)
    return _told(hearing, latest, state=state) is not None or _overtaken(hearing, latest, rows, state=state)


def _delay(row: Row, post: Post, lives: Sequence[Life]) -> float | None:
    """Seconds from when it could have been told, with the receiver well and a daemon running, until it was."""
    life = next((one for one in lives if one.began <= post.at <= one.until), None)
    if life is None or not life.calm or post.up_since is None or post.mood is not Mood.UP:
        return None
    ready = max(row.created_at + GROUP_WAIT, life.asked_at or life.began, post.up_since)
    return max(0.0, (post.at - ready).total_seconds())


# What the campaigns remember


def _of_batch(hearing: _Hearing, batch_id: str, names: Sequence[str]) -> list[datetime]:
    """When episodes of these alerts of a batch began, as the receiver heard it."""
    return [
        starts_at
        for labels, starts_at in hearing.told
        if dict(labels).get("batch_id") == batch_id and dict(labels)["alertname"] in names
    ]


def _events(hearing: _Hearing, ends: Iterable[Expected], *, state: bool, wants: Sequence[str] | None) -> None:
    verdict = hearing.verdict
    for end in ends:
        found = {name: _in(end, _of_batch(hearing, end.batch_id, [name])) for name in ENDS}
        right = [at for name, told in found.items() for at in told if name in end.names or _blind(end, at)]
        wrong = [name for name, told in found.items() if name not in end.names and set(told) - set(right)]
        if wrong:
            verdict.untrue.append(f"{wrong[0]} was told, and what happened is {end}")
        elif len(right) > 1:
            verdict.other_key.append(f"told as {len(right)} events: {end}")
        elif (
            not right
            and end.must
            and not (wants is not None and end.blind)
            and not (state and _overwritten(hearing, end))
        ):
            verdict.lost.append(f"it happened, and was never told: {end}")


def _blind(end: Expected, at: datetime) -> bool:
    return within(list(end.blind), at - OUTCOMES_WAIT, at)


def _overwritten(hearing: _Hearing, end: Expected) -> bool:
    return any(at > end.until for at in _of_batch(hearing, end.batch_id, end.names))


def _stalls(hearing: _Hearing, stalls: list[Expected]) -> None:
    for stall in stalls:
        said = _in(stall, _of_batch(hearing, stall.batch_id, [*stall.names, *stall.instead]))
        if stall.must and not said and not _overwritten(hearing, stall):
            hearing.verdict.lost.append(f"it happened, and was never told: {stall}")
    for labels, starts_at in hearing.told:
        known = dict(labels)
        if known["alertname"] == "BatchStalled" and not any(
            stall.batch_id == known["batch_id"] and stall.since <= starts_at <= stall.until
            for stall in stalls
        ):
            hearing.verdict.untrue.append(hearing.said("it was not stalled", labels))


def _in(what: Expected, instants: Iterable[datetime]) -> list[datetime]:
    return [at for at in instants if what.since <= at <= what.until]

"""What a receiver is told next: which notifications make one message, when it falls due, and what is left to tell.

Pure: rows of the outbox in, a message out. It sends nothing, stores nothing and reads no clock.

An *episode* is one firing of one alert: the notification of its beginning, reminders, the one of its end.
What waits of an episode is told in one go, as it stands by then:

| was its beginning told | waits                        | told                                             |
| ---------------------- | ---------------------------- | ------------------------------------------------ |
| no                     | beginning, reminders         | it fires, in the latest words                    |
| no                     | beginning, its end           | it fired and is over, with both times            |
| no                     | the same, held by a mute     | nothing: it was over before the mute was         |
| no                     | the same, superseded         | nothing: what superseded it says more            |
| no                     | its end alone                | nothing: who heard of no beginning wants no end  |
| yes                    | reminders                    | it still fires, in the latest words              |
| yes                    | its end                      | it is over                                       |

Of one alert (one set of labels) a message tells one episode; the next one is told after it, never before.
A message also lists what else fires on in its group, as Alertmanager's do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitor import messages
from monitor.model import Alert, AlertName, Entry, Labels, Message, MessageKind, Notification

MOST_ENTRIES = 500
"""Alerts in one message. What is more comes in the next one."""

REMINDERS_WAIT = 10
"""Reminders wait so many times `group_wait`: nobody is waiting for them, and they fall due one by one."""

LONGEST_WAIT = timedelta(hours=1)
"""No wait after a failure is longer. One that seems longer was set before a clock was set back."""

Muted = Callable[[Notification], datetime | None]
"""Until when a mute holds this; None: none does."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the next message to one receiver depends on."""

    receiver: str
    waiting: tuple[Notification, ...]  # the oldest first
    heard: Mapping[str, Alert] = field(default_factory=dict)  # episodes it was told of that fire on
    under_way: tuple[Message, ...] = ()  # these may have arrived: what follows them waits


@dataclass(frozen=True, slots=True)
class Manner:
    """How one receiver is told."""

    group_wait: timedelta
    group_by: tuple[str, ...]  # labels; () puts everything into one message
    external_url: str | None = None
    most_entries: Mapping[Labels, int] = field(
        default_factory=dict
    )  # by group, where MOST_ENTRIES were too many


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now."""

    message: Message | None = None
    overtaken: tuple[Notification, ...] = ()  # there is nothing left to tell: settled
    again_at: datetime | None = None  # when there is something to tell; None: when something comes


def held(rows: Iterable[Notification], muted: Muted, now: datetime) -> tuple[Notification, ...]:
    """Those of which a mute has begun or ended, or whose mute now ends at another time."""
    changed = []
    for row in rows:
        until = muted(row)
        if until is None and row.held_until is not None and row.held_until > now:
            changed.append(replace(row, held_until=now))
        elif until is not None and until != row.held_until:
            held_on = row.held_until is not None and row.held_until > now
            changed.append(replace(row, held_since=row.held_since if held_on else now, held_until=until))
    return tuple(changed)


def over_while_muted(
    rows: Iterable[Notification], group_wait: timedelta, now: datetime
) -> tuple[Notification, ...]:
    """Episodes that were not due before a mute held them, and ended under it, settled: nothing is left to tell."""
    overtaken: list[Notification] = []
    for episode in _episodes(rows).values():
        if _over_while_muted(episode, group_wait):
            overtaken += _overtaken(episode, "it was over before its mute was", now)
    return tuple(overtaken)


def compose(standing: Standing, manner: Manner, now: datetime) -> Plan:
    """The next message, if one is due."""
    overtaken: list[Notification] = []
    untold: dict[_Name, AlertName] = {}
    entries: list[tuple[Entry, list[Notification]]] = []
    under_way = {entry.alert.labels for message in standing.under_way for entry in message.entries}
    for fingerprint, rows in _episodes(standing.waiting).items():
        if rows[0].alert.labels in under_way:
            continue  # whether its receiver has heard of the beginning is not known yet
        entry = _entry(rows, manner.group_wait, heard=fingerprint in standing.heard)
        if isinstance(entry, str):
            overtaken += _overtaken(rows, entry, now)
            if (by := rows[-1].superseded_by) is not None:
                untold[_name(rows[-1].alert)] = by
        else:
            entries.append((entry, rows))
    grouped = _Groups(standing, manner, [entry for entry, _ in entries], untold)
    due: dict[Labels, tuple[int, datetime]] = {}
    able: dict[Labels, list[Entry]] = {}
    again: list[datetime] = []
    for entry, rows in entries:
        group = grouped.of(entry)
        if grouped.waits_for_another(entry, group):
            continue
        at = _due(entry, rows, manner, now)
        if (not_before := _not_before(rows, now)) is not None:
            again.append(not_before)  # neither it nor what is said of this alert next
            continue
        again.append(at)
        rank = (max(row.attempts for row in rows), at)
        due[group] = min(due.get(group, rank), rank, key=lambda ranked: ranked[1])
        able.setdefault(group, []).append(entry)
    ready = [(attempts, at, group) for group, (attempts, at) in due.items() if at <= now]
    if not ready:
        return Plan(None, tuple(overtaken), min(again, default=None))
    attempts, _, group = min(ready)  # what has failed before lets the others go first
    message = grouped.message(group, able[group], now, attempts)
    return Plan(message, tuple(overtaken), now)


def given_up(
    rows: Iterable[Notification], give_up_after: timedelta, now: datetime
) -> tuple[Notification, ...]:
    """Those that have waited so long, not counting the time in which a mute held them."""
    return tuple(
        row
        for row in rows
        if not row.settled and now - max(row.created_at, row.held_until or row.created_at) >= give_up_after
    )


def delivered(message: Message, row: Notification, now: datetime) -> Notification:
    """The notification, delivered with this message."""
    return replace(
        row,
        message_id=message.id,
        delivered_at=now,
        attempts=row.attempts + 1,
        next_attempt_at=None,
        last_error=None,
    )


def notification_id(receiver: str, alert: Alert, kind: MessageKind, now: datetime) -> str:
    """A name for what one receiver is told of one alert at one moment."""
    text = f"{receiver}\n{alert.fingerprint}\n{kind}\n{now.isoformat()}"
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]


def _episodes(rows: Iterable[Notification]) -> dict[str, list[Notification]]:
    """By episode, in the order in which their first waiting notification came."""
    found: dict[str, list[Notification]] = {}
    for row in rows:
        found.setdefault(row.alert.fingerprint, []).append(row)
    return found


def _entry(rows: list[Notification], group_wait: timedelta, *, heard: bool) -> Entry | str:
    """What there is to say of an episode, by the table above; a text: why nothing is."""
    settles = tuple(row.id for row in rows)
    end = next((row for row in rows if row.kind is MessageKind.RESOLVED), None)
    if end is None:
        return Entry(MessageKind.REMINDER if heard else MessageKind.FIRING, rows[-1].alert, settles)
    if heard:
        return Entry(MessageKind.RESOLVED, end.alert, settles, end.superseded_by)
    if len(rows) == 1:
        return "its beginning was never told"
    if end.superseded_by is not None:
        return f"superseded by {end.superseded_by} before it was told"
    if _over_while_muted(rows, group_wait):
        return "it was over before its mute was"
    return Entry(MessageKind.RESOLVED, messages.belated(end.alert), settles, belated=True)


def _over_while_muted(rows: list[Notification], group_wait: timedelta) -> bool:
    first, end = rows[0], rows[-1]
    return (
        first.kind is MessageKind.FIRING
        and end.kind is MessageKind.RESOLVED
        and not any(row.settled or row.attempts for row in rows)
        and first.held_since is not None
        and first.held_until is not None
        # What was due before, and only had not left because its receiver was down, is told after all.
        and first.held_since <= first.created_at + group_wait
        and end.created_at <= first.held_until
    )


def _overtaken(rows: Iterable[Notification], why: str, now: datetime) -> list[Notification]:
    return [replace(row, overtaken_at=now, overtaken=why, next_attempt_at=None) for row in rows]


def _due(entry: Entry, rows: list[Notification], manner: Manner, now: datetime) -> datetime:
    if rows[0].created_at > now:
        return now  # a clock that was set back prolongs nothing
    times = REMINDERS_WAIT if entry.kind is MessageKind.REMINDER else 1
    return rows[0].created_at + times * manner.group_wait


def _not_before(rows: list[Notification], now: datetime) -> datetime | None:
    """Until when a mute or a failure keeps it from being told."""
    until = [row.held_until for row in rows if row.held_until is not None and row.held_until > now]
    until += [
        row.next_attempt_at
        for row in rows
        if row.next_attempt_at is not None and now < row.next_attempt_at <= now + LONGEST_WAIT
    ]
    return max(until, default=None)


_Name = tuple[str, str, str]
"""Of an alert: its name, its batch, its account. Labels are frozen when it fires, so these may differ in the rest."""


def _name(alert: Alert, by: AlertName | None = None) -> _Name:
    labels = dict(alert.labels)
    name = labels.get("alertname", "") if by is None else by.value
    return name, labels.get("batch_id", ""), labels.get("account", "")


class _Groups:
    """Which entries belong together, and which have to wait for others."""

    def __init__(
        self,
        standing: Standing,
        manner: Manner,
        entries: Iterable[Entry],
        untold: Mapping[_Name, AlertName],
    ) -> None:
        self._standing = standing
        self._manner = manner
        under_way = [entry for message in standing.under_way for entry in message.entries]
        fires = [entry.alert for entry in (*entries, *under_way) if entry.kind is not MessageKind.RESOLVED]
        self._firing = {_name(alert) for alert in (*fires, *standing.heard.values())}
        self._untold = untold  # superseded before they were told: what says more in their place
        self._busy_groups = {message.group for message in standing.under_way}
        self._busy = {entry.alert.labels for entry in under_way}
        self._busy |= {alert.labels for message in standing.under_way for alert in message.still}

    def of(self, entry: Entry) -> Labels:
        """The group. What was superseded is told with what superseded it: it is no good news of its own."""
        labels = dict(entry.alert.labels)
        by = entry.superseded_by
        passed = set[_Name]()  # a circle, of rows that another version left, ends somewhere, too
        while by is not None and (name := _name(entry.alert, by)) not in self._firing:
            by = None if name in passed else self._untold.get(name)
            passed.add(name)
        if by is not None:
            labels["alertname"] = by.value
        return self._group(labels)

    def _group(self, labels: Mapping[str, str]) -> Labels:
        return tuple((name, labels[name]) for name in sorted(self._manner.group_by) if labels.get(name))

    def waits_for_another(self, entry: Entry, group: Labels) -> bool:
        """Whether something that is said before it is not known to have arrived."""
        if entry.alert.labels in self._busy:
            return True
        self._busy.add(entry.alert.labels)
        return group in self._busy_groups

    def message(self, group: Labels, able: list[Entry], now: datetime, attempts: int) -> Message:
        most = self._manner.most_entries.get(group, MOST_ENTRIES)
        entries = tuple(able[:most])
        listed = {entry.alert.labels for entry in entries}
        under_way = {alert.labels for message in self._standing.under_way for alert in _alerts(message)}
        still = [
            alert
            for alert in self._standing.heard.values()
            if alert.labels not in listed
            and alert.labels not in under_way
            and self._group(dict(alert.labels)) == group
        ]
        still.sort(key=lambda alert: (alert.starts_at, alert.labels))
        shown = tuple(still[: most - len(entries)])
        left_out = len(still) - len(shown)
        receiver, url = self._standing.receiver, self._manner.external_url
        told = [(entry.kind.value, entry.settles, *_words(entry.alert)) for entry in entries]
        said = repr((receiver, group, told, [_words(alert) for alert in shown], left_out, url))
        name = hashlib.sha256(said.encode(errors="replace")).hexdigest()[:32]
        return Message(name, receiver, now, group, entries, shown, left_out, url, attempts)


def _words(alert: Alert) -> tuple[str, Labels, str]:
    """All that is said of an alert, the same before and after it was stored."""
    return alert.fingerprint, alert.annotations, alert.ends_at.isoformat() if alert.ends_at else ""


def _alerts(message: Message) -> tuple[Alert, ...]:
    return (*(entry.alert for entry in message.entries), *message.still)

"""Alertmanager: told states, not messages, the way Prometheus does it.

Everything that fires is posted again and again with an end ahead of now; what has ended is posted as
ended for a while; what is posted no more lapses by itself. What to post is derived from the outbox
alone, so a restart changes nothing. Every address gets all of it: peers of a cluster do not share alerts.

An *episode* is one firing of one alert: its firing message and, later, the message of its end.

| firing message              | message of its end        | posted                                       |
| --------------------------- | ------------------------- | -------------------------------------------- |
| any                         | none yet                  | firing                                       |
| a one-shot                  | has none                  | firing, until 1 h after it was accepted      |
| accepted before the end     | any                       | resolved, until 15 min after it was accepted |
| not accepted before the end | any                       | firing, until 10 min after it was accepted   |
| the same, 10 min later      | any                       | resolved, until 15 min after it was accepted |
| given up, or overtaken      | any                       | nothing                                      |

Alertmanager never notifies what arrives resolved or resolves inside its group_wait: hence the 10 min.
Of one alert, only the latest episode is posted: two states of the same labels would overwrite each other.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr

from monitor.alerts import ONE_SHOT_FOR
from monitor.model import Labels, MessageKind, Notification
from monitor.notify.channel import (
    DEFAULT_TIMEOUT,
    SendError,
    Told,
    Wire,
    post,
    present,
    rfc3339,
    still_to_wait,
    web_url,
)

RESEND_EVERY = timedelta(minutes=1)
"""Prometheus' own default (rules.alert.resend-delay)."""

ENDS_AFTER = 4 * RESEND_EVERY
"""How far ahead the end of what fires is set: Prometheus' factor. If we die, it lapses after this."""

RESOLVED_FOR = timedelta(minutes=15)
"""How long an end is repeated after it was first accepted, for peers that were away; as Prometheus does."""

HOLD_FIRING = timedelta(minutes=10)
"""How long an alert is posted as firing that had ended before Alertmanager took it: longer than any sane group_wait."""

POST_SIZE = 256
"""Alerts in one post; Prometheus' own limit."""

_SOME_ARE_BAD = frozenset({400, 413, 422})
"""Answers that may be about some of the alerts only. With 400 the good ones are accepted all the same."""


@dataclass(frozen=True, slots=True)
class Post:
    """One alert, as it is to be posted now."""

    body: dict[str, Any]
    settles: frozenset[str]  # notifications that are delivered when this is accepted; empty: a repetition
    covers: frozenset[str]  # every notification of this alert
    not_before: datetime | None  # it was refused: leave it alone until then

    def due(self, now: datetime) -> bool:
        return not still_to_wait(self.not_before, now)


def postable(notifications: Iterable[Notification], now: datetime, external_url: str | None) -> list[Post]:
    """What to post at `now`, by the table above; one entry an alert, the longest firing first."""
    by_alert: dict[Labels, list[Notification]] = defaultdict(list)
    notifications = tuple(notifications)
    overtaken = {row.alert.fingerprint for row in notifications if row.overtaken_at is not None}
    for notification in notifications:
        if notification.alert.fingerprint in overtaken:
            continue  # there was nothing left to tell of it
        by_alert[tuple(sorted(present(notification.alert.labels).items()))].append(notification)
    posts = []
    for rows in by_alert.values():
        latest = max(rows, key=lambda row: (row.alert.starts_at, row.created_at)).alert.fingerprint
        firing = [r for r in rows if r.alert.fingerprint == latest and r.kind is MessageKind.FIRING]
        ended = [r for r in rows if r.alert.fingerprint == latest and r.kind is MessageKind.RESOLVED]
        said = _said(firing[0] if firing else None, ended[0] if ended else None, now)
        if said is not None:
            row, ends_at = said
            # With the present state earlier episodes are told too, and reminders: it repeats by itself.
            settles = frozenset(
                r.id
                for r in rows
                if not r.settled
                and (r is row or r.kind is MessageKind.REMINDER or r.alert.fingerprint != latest)
            )
            posts.append(
                Post(
                    body=_body(row, ends_at, external_url),
                    settles=settles,
                    covers=frozenset(r.id for r in rows),
                    not_before=row.next_attempt_at,
                )
            )
    return sorted(posts, key=lambda a_post: a_post.body["startsAt"])


def _said(
    firing: Notification | None, ended: Notification | None, now: datetime
) -> tuple[Notification, datetime] | None:
    """Which of the two speaks, and the end it tells; None: there is nothing more to say."""
    if firing is not None and firing.dropped_at is not None:
        return None
    if firing is not None and firing.one_shot:
        until = (firing.delivered_at or now) + ONE_SHOT_FOR
        return (firing, until) if until > now else None
    if ended is None:
        return (firing, now + ENDS_AFTER) if firing is not None else None
    end = ended.created_at
    if firing is not None and (firing.delivered_at is None or firing.delivered_at >= ended.created_at):
        if firing.delivered_at is None or now < firing.delivered_at + HOLD_FIRING:
            return firing, now + ENDS_AFTER
        end = firing.delivered_at + HOLD_FIRING
    if ended.dropped_at is not None:
        return None
    if ended.delivered_at is not None and now >= ended.delivered_at + RESOLVED_FOR:
        return None
    return ended, min(end, now)


def _body(row: Notification, ends_at: datetime, external_url: str | None) -> dict[str, Any]:
    alert = row.alert
    body = {
        "labels": present(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": rfc3339(alert.starts_at),  # without it, startsAt would become endsAt
        "endsAt": rfc3339(max(ends_at, alert.starts_at)),
    }
    if url := web_url(external_url):  # one bad generatorURL has the whole post refused
        body["generatorURL"] = url
    return body


@dataclass(frozen=True, slots=True)
class Settings:
    """One Alertmanager, or all peers of one cluster."""

    urls: tuple[SecretStr, ...]  # without /api/v2/alerts
    timeout: timedelta = DEFAULT_TIMEOUT

    @property
    def resend_every(self) -> timedelta:
        """How often it wants to hear what it has already heard."""
        return RESEND_EVERY

    async def tell(self, wire: Wire, notifications: Iterable[Notification], *, all_of_it: bool) -> Told:
        """Post to every address. What one of them accepts is delivered. Never raises."""
        posts = postable(notifications, wire.now, wire.external_url)
        needed = frozenset[str]().union(*(a_post.covers for a_post in posts))
        due = [a_post for a_post in posts if a_post.due(wire.now) and (all_of_it or a_post.settles)]
        if not due:
            return Told(needed=needed)
        results = await asyncio.gather(*(self._post_all(wire, url, due) for url in self.urls))
        accepted = set[str]()
        refused = dict[str, SendError]()
        for result in results:
            accepted |= result.accepted
            refused |= result.refused
        failures = [failure for result in results for failure in result.failures]
        all_down = failures and all(result.down is not None for result in results)
        return Told(
            accepted=frozenset(accepted),
            refused={row: error for row, error in refused.items() if row not in accepted},
            failures=tuple(failures),
            needed=needed,
            down=failures[0] if all_down else None,
        )

    async def _post_all(self, wire: Wire, url: SecretStr, posts: Sequence[Post]) -> _Result:
        """Everything to one address, until it fails in a way that the next post would share."""
        endpoint = SecretStr(url.get_secret_value().rstrip("/") + "/api/v2/alerts")
        result = _Result()
        waiting = [posts[start : start + POST_SIZE] for start in range(0, len(posts), POST_SIZE)]
        while waiting:
            chunk = waiting.pop(0)
            body = json.dumps([a_post.body for a_post in chunk]).encode()
            try:
                await post(wire, endpoint, body, {}, self.timeout)
            except SendError as error:
                if error.status not in _SOME_ARE_BAD:
                    result.failures.append(error)
                    result.down = error
                    break
                if len(chunk) > 1:
                    waiting[:0] = [[a_post] for a_post in chunk]
                else:
                    result.failures.append(error)
                    result.refused |= dict.fromkeys(chunk[0].settles, error)
            else:
                for a_post in chunk:
                    result.accepted |= a_post.settles
        return result


@dataclass(slots=True)
class _Result:
    """What one address made of it."""

    accepted: set[str] = field(default_factory=set)
    refused: dict[str, SendError] = field(default_factory=dict)
    failures: list[SendError] = field(default_factory=list)
    down: SendError | None = None

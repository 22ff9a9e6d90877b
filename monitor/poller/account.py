"""One account at work: its client, what its probe told, and what its throttles allow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from monitor import evaluate, throttles
from monitor.alerts import Policy
from monitor.evaluate import NO_CIRCUMSTANCES
from monitor.model import AccountStatus, BatchKey, Circumstances, Observation, Status, Throttle
from monitor.ultravox import AccountAnswer, Client, UltravoxError

logger = logging.getLogger(__name__)

SKEW_WARNING = timedelta(seconds=30)
"""A difference between the API's clock and ours that is worth a line in the log."""

THROTTLES_EVERY = timedelta(minutes=10)
"""How long the rules of throttles are believed before they are read again, and not asked for after a failure."""


@dataclass(slots=True)
class Account:
    """What is running for one account."""

    client: Client
    policy: Policy
    status: AccountStatus
    skewed: bool = False
    calls_per_second: float | None = None  # of all its batches together, at the latest probe
    throttles: tuple[Throttle, ...] = ()
    throttles_asked_at: datetime | None = None
    first_reading: asyncio.Task[None] | None = None  # of the throttles' rules, which judging waits for
    polled: Callable[[float], None] | None = None  # counts a poll of so many seconds
    throttled: dict[str, set[BatchKey]] = field(default_factory=dict)  # which batches share which throttle

    def note_throttle(self, status: Status) -> None:
        """Count this batch among those that share its throttle."""
        named = status.progress.last.throttle if status.progress else None
        if named is None or status.key not in self.throttled.get(named, ()):
            self.forget(status.key)
        if named is not None:
            self.throttled.setdefault(named, set()).add(status.key)

    def forget(self, key: BatchKey) -> None:
        """Count this batch no more."""
        for keys in self.throttled.values():
            keys.discard(key)

    def around(self, before: Status, seen: Observation, statuses: Mapping[BatchKey, Status]) -> Circumstances:
        """What is true around a batch that was just seen like this."""
        at_cap = self.status.at_cap
        most = self.calls_per_second if at_cap else None
        if seen.throttle is None and not at_cap:
            return NO_CIRCUMSTANCES
        if seen.throttle is None:
            return Circumstances(at_cap=at_cap, most_calls_per_second=most)
        throttle, known = self.throttle(seen.throttle), before.progress
        same = known is not None and known.last.throttle == seen.throttle
        if throttle is None and known is not None and same and known.clock_started_at is not None:
            # It was judged by the rules before. Until they are read again, that goes on: no news.
            return Circumstances(at_cap=at_cap, most_calls_per_second=most)
        sharing = [throttles.usage(seen, throttles.marked(known.marks if known and same else (), seen))]
        # Some name it by its name, others by its id.
        names = {seen.throttle} if throttle is None else {throttle.name, throttle.throttle_id}
        keys = {key for named in names for key in self.throttled.get(named, ())} - {before.key}
        sharing += [
            throttles.usage(progress.last, progress.marks)
            for key in keys
            if (status := statuses.get(key)) is not None and (progress := status.progress) is not None
        ]
        found = throttles.standing(throttle, sharing, seen.at)
        bounds = [bound for bound in (most, found.most_calls_per_second) if bound is not None]
        return Circumstances(found.spent, found.why, at_cap, min(bounds, default=None))

    def throttle(self, named: str) -> Throttle | None:
        """The throttle that a batch names, by name or by id. None: its rules are not known."""
        return next((one for one in self.throttles if named in {one.name, one.throttle_id}), None)

    async def read_throttles(self, now: datetime) -> None:
        """Read the rules of the account's throttles, if it is time to. What cannot be read stays as it was known."""
        if self.throttles_asked_at is not None and now - self.throttles_asked_at < THROTTLES_EVERY:
            return
        self.throttles_asked_at = now  # nobody else asks meanwhile
        try:
            self.throttles = await self.client.get_throttles()
        except UltravoxError as error:
            logger.warning(
                "the rules of throttles cannot be read; throttled batches are judged with care",
                extra={"account": self.status.name, "error": str(error)},
            )

    def probed(self, answer: AccountAnswer | UltravoxError, now: datetime) -> AccountStatus:
        """The account as it stands after this answer to its probe. Logs what has changed."""
        before = self.status
        if isinstance(answer, UltravoxError):
            failing = evaluate.failed(before.failing, answer.reason, str(answer), now)
            after = replace(before, last_probe_at=now, failing=failing)
        else:
            after = replace(
                before,
                last_probe_at=now,
                last_success_at=now,
                failing=None,
                active_calls=answer.active_calls,
                allowed_concurrent_calls=answer.allowed_concurrent_calls,
                clock_skew=answer.clock_skew,
            )
        self._log_change(after)
        return after

    def _log_change(self, after: AccountStatus) -> None:
        fields = {"account": after.name}
        if after.failing is not None and self.status.failing is None:
            logger.warning("account does not answer", extra=fields | {"error": after.failing.message})
        if after.failing is None and self.status.failing is not None:
            logger.info("account answers again", extra=fields)
        skewed = after.clock_skew is not None and abs(after.clock_skew) > SKEW_WARNING
        if skewed and not self.skewed:
            logger.warning(
                "the API's clock differs from ours; batches are judged by the API's",
                extra=fields | {"skew": str(after.clock_skew)},
            )
        self.skewed = skewed

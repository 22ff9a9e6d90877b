"""What holds of each alert now, for a batch and for an account. What follows from it is decisions.py's.

Pure: facts in, a Condition out.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from monitor import pace
from monitor.alerts import NO_NEWS, Condition, Policy
from monitor.evaluate import CONFIRMED
from monitor.model import (
    AccountStatus,
    AlertName,
    FailureReason,
    Outcomes,
    Phase,
    Resolution,
    Severity,
    State,
    Status,
)

UNDECIDED_FOR = timedelta(minutes=15)
"""How long an end that may still turn out bad, by the calls under way, is not told as a good one."""

UNREACHABLE_POLLS = 3
"""Failed polls in a row before a batch counts as unreachable."""

FORGET_GONE_AFTER = timedelta(hours=24)
"""How long a batch that vanished is held up as an alert."""

CRITICAL_UNREACHED = 0.05
"""Share of a batch's calls, left unmade or failed, from which its end is critical."""


def of_batch(
    name: AlertName, policy: Policy, status: Status, account: AccountStatus, now: datetime, *, news: bool
) -> Condition:
    if name is AlertName.BATCH_UNREACHABLE:
        return _unreachable(status, account)
    if name is AlertName.BATCH_GONE:
        return _gone(status, now, news=news)
    if not news or status.progress is None:
        return NO_NEWS
    return _OF_OBSERVED[name](name, policy, status, account, now)


def quiet(policy: Policy, status: Status) -> bool:
    """Whether no alert of a batch stands and none can begin: what most batches are, most of the time.

    Says nothing that asking for each would not (a property test holds the two together); it only says it sooner.
    """
    return (
        not status.alerts
        and status.failing is None
        and status.assessment.state in _AS_IT_SHOULD
        and (status.progress is None or status.progress.last.ended_at is None)
        and not _at_risk(status).holds
        and not (status.outcomes is not None and _failing_calls(policy, status).holds)
    )


_AS_IT_SHOULD = frozenset({State.RUNNING, State.WAITING})

_ENDS = frozenset({AlertName.BATCH_ENDED, AlertName.BATCH_ENDED_INCOMPLETE})


def _in_state(wanted: State, status: Status) -> Condition:
    state = status.assessment.state
    return _HOLDS if state is wanted else _OVER[state]


_WHY_OVER: dict[State, Resolution] = {
    State.UNKNOWN: Resolution.RECOVERED,
    State.INCOMPLETE: Resolution.ENDED,
    State.ENDED: Resolution.ENDED,
    State.GONE: Resolution.RECOVERED,
    State.OVERDUE: Resolution.WINDOW_CLOSED,
    State.PAUSED: Resolution.PAUSED,
    State.WAITING: Resolution.RECOVERED,
    State.STALLED: Resolution.RECOVERED,
    State.RUNNING: Resolution.RECOVERED,
}
"""Why an alert about a state is over, by the state that came after it."""

# Made once: most of what is asked, of thousands of batches at each poll, is answered by one of these.
_HOLDS = Condition(holds=True)
_HOLDS_NOT = Condition(holds=False)
_OVER = {state: Condition(holds=False, resolution=resolution) for state, resolution in _WHY_OVER.items()}


_BEFORE_THE_END = frozenset({State.RUNNING, State.STALLED, State.WAITING, State.PAUSED})


def _at_risk(status: Status) -> Condition:
    """Calls will be left unmade. It takes a recovery to end it: a pause or an idle throttle is none."""
    state = status.assessment.state
    if state not in _BEFORE_THE_END:
        return _OVER[state]
    already = any(
        alert.name is AlertName.BATCH_WINDOW_AT_RISK and alert.phase is Phase.FIRING
        for alert in status.alerts
    )
    if status.assessment.projected_missed is None:  # the time that it is paused for counts towards no hold
        return NO_NEWS if already else _HOLDS_NOT
    return Condition(holds=pace.at_risk(status.assessment, already=already))


def _failing_calls(policy: Policy, status: Status) -> Condition:
    state, outcomes = status.assessment.state, status.outcomes
    if status.progress is not None and 0 < status.progress.end_seen < CONFIRMED:
        return NO_NEWS  # the message of the end, which says more, waits for the outcomes
    if state not in _BEFORE_THE_END and state is not State.OVERDUE:
        return _OVER[state]
    if outcomes is None:
        return NO_NEWS
    ratio = outcomes.error_ratio
    enough = outcomes.success + outcomes.error >= policy.failure_min_calls
    return Condition(holds=enough and ratio is not None and ratio >= policy.failure_ratio)


def _paused(status: Status, now: datetime) -> Condition:
    progress, state = status.progress, status.assessment.state
    if progress is None or state is not State.PAUSED or progress.paused_since is None:
        return _OVER[state]
    start = progress.last.window_start
    if progress.last.remaining == 0 or (start is not None and progress.last.at < start):
        return _HOLDS_NOT
    since = progress.paused_since if start is None else max(progress.paused_since, start)
    # Since when by the API's clock; the alert counts by ours.
    return Condition(holds=True, since=now - (progress.last.at - since))


def _ended(name: AlertName, policy: Policy, status: Status, account: AccountStatus) -> Condition:
    """An end is told once it was seen twice, and only if it came after we began to watch."""
    progress = status.progress
    if progress is None or progress.last.ended_at is None:
        return _HOLDS_NOT
    seen, ended_at = progress.last, progress.last.ended_at
    told = {state.occurrence for state in status.alerts if state.name in _ENDS and state.name is not name}
    if (
        is_history(ended_at, account) or ended_at in told
    ):  # told under the other name, before it was corrected
        return _HOLDS_NOT
    unmade, outcomes = seen.remaining, status.final_outcomes
    # Quotients are compared, not products: 0.29 * 100 is less than 29.
    left_out = unmade > policy.unmade_over_count and unmade / seen.total > policy.unmade_over_ratio
    failed_ratio = outcomes.error_ratio if outcomes else None
    incomplete = left_out or (failed_ratio is not None and failed_ratio >= policy.failed_ratio)
    if incomplete is not (name is AlertName.BATCH_ENDED_INCOMPLETE):
        return _HOLDS_NOT
    waits = not incomplete and outcomes is not None and _undecided(outcomes, policy)
    unreached = unmade + (outcomes.error if outcomes else 0)
    critical = incomplete and unreached >= CRITICAL_UNREACHED * seen.total
    return Condition(
        holds=True,
        ripe=progress.end_seen >= CONFIRMED and not (waits and seen.at - ended_at < UNDECIDED_FOR),
        occurrence=ended_at,
        severity=Severity.CRITICAL if critical else None,
    )


def is_history(ended_at: datetime, account: AccountStatus) -> bool:
    """Whether an end came before we began to watch; the API dates it, so it is compared by the API's clock."""
    return ended_at <= account.watched_since + (account.clock_skew or timedelta(0))


def _undecided(outcomes: Outcomes, policy: Policy) -> bool:
    """Whether the calls still under way may make too many failed ones of it."""
    made = outcomes.success + outcomes.error + outcomes.pending
    return outcomes.pending > 0 and (outcomes.error + outcomes.pending) / made >= policy.failed_ratio


def _unreachable(status: Status, account: AccountStatus) -> Condition:
    failing = status.failing
    ended = status.progress is not None and status.progress.last.ended_at is not None
    if failing is None or ended:  # an ended batch that vanishes is no trouble
        return _HOLDS_NOT
    if status.assessment.state is State.GONE:  # BatchGone says what is to be said of it
        return _HOLDS_NOT
    answered = account.last_success_at is not None and account.last_success_at > failing.since
    if failing.count < UNREACHABLE_POLLS or not answered:
        return NO_NEWS
    return Condition(holds=True, since=failing.since)


def _gone(status: Status, now: datetime, *, news: bool) -> Condition:
    if status.assessment.state is State.GONE and status.failing is not None:
        if now - (status.failing.not_found_since or status.failing.since) >= FORGET_GONE_AFTER:
            return Condition(holds=False, resolution=Resolution.NO_LONGER_WATCHED)
        return _HOLDS
    return _HOLDS_NOT if news else NO_NEWS


_OfObserved = Callable[[AlertName, Policy, Status, AccountStatus, datetime], Condition]
_OF_OBSERVED: dict[AlertName, _OfObserved] = {
    AlertName.BATCH_ENDED: lambda name, policy, status, account, _: _ended(name, policy, status, account),
    AlertName.BATCH_ENDED_INCOMPLETE: lambda name, policy, status, account, _: _ended(
        name, policy, status, account
    ),
    AlertName.BATCH_OVERDUE: lambda _name, _policy, status, *_: _in_state(State.OVERDUE, status),
    AlertName.BATCH_STALLED: lambda _name, _policy, status, *_: _in_state(State.STALLED, status),
    AlertName.BATCH_WINDOW_AT_RISK: lambda _name, _policy, status, *_: _at_risk(status),
    AlertName.BATCH_PAUSED_TOO_LONG: lambda _name, _policy, status, _account, now: _paused(status, now),
    AlertName.BATCH_FAILURE_RATE_HIGH: lambda _name, policy, status, *_: _failing_calls(policy, status),
}
"""Those that only a good observation moves."""


def of_account(name: AlertName, account: AccountStatus) -> Condition:
    failing = account.failing
    if failing is None:
        return _HOLDS_NOT
    rejected = failing.reason in {FailureReason.UNAUTHORIZED, FailureReason.FORBIDDEN}
    if rejected and name is AlertName.ACCOUNT_KEY_REJECTED:
        return Condition(
            holds=True
        )  # since the first rejection, not since the outage that may have come before
    if not rejected and name is AlertName.ACCOUNT_UNREACHABLE:
        return Condition(holds=True, since=failing.since)
    # The key cannot be judged while nothing answers, and a rejected key says that the API does answer.
    return NO_NEWS if name is AlertName.ACCOUNT_KEY_REJECTED else _HOLDS_NOT

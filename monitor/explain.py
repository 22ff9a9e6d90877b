"""Why each alert of a batch fires or does not, with the numbers compared, and when it would if nothing changed.

Pure. It judges nothing anew: conditions.py says what holds, the standing alerts say how far each is; this
puts both into words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from monitor import alerts, conditions, messages, words
from monitor.alerts import Condition, Policy
from monitor.evaluate import CONFIRMED, GONE_AFTER
from monitor.model import AccountStatus, AlertName, Observation, Phase, State, Status
from monitor.routing import Receiver


@dataclass(frozen=True, slots=True)
class Explanation:
    """One alert of one batch. `fires_at`: if nothing changed, by our clock; None: it would not.

    `not_told`: receivers that do not hear of it, each with why.
    """

    alert: AlertName
    standing: str  # firing, pending, told, inactive, switched off
    why: str
    fires_at: datetime | None = None
    not_told: tuple[tuple[str, str], ...] = ()


def explain(
    status: Status,
    account: AccountStatus,
    policy: Policy,
    now: datetime,
    receivers: Iterable[Receiver] = (),
) -> tuple[Explanation, ...]:
    """Every alert that there is for batches, in the order in which they are stepped."""
    present, hearers = {state.name: state for state in status.alerts}, tuple(receivers)
    found = []
    for name, kind in alerts.KINDS.items():
        if not kind.about_account:
            explanation, state = _one(name, status, account, policy, now), present.get(name)
            told = state.receivers if state is not None else ()
            severity = state.severity if state is not None else kind.severity
            labels = (state.labels if state else ()) or messages.batch_labels(name, severity, status)
            unheard = ((one.name, one.route.why_not(labels)) for one in hearers if one.name not in told)
            not_told = tuple((receiver, why) for receiver, why in unheard if why is not None)
            found.append(replace(explanation, not_told=not_told))
    return tuple(found)


def _one(
    name: AlertName, status: Status, account: AccountStatus, policy: Policy, now: datetime
) -> Explanation:
    rule = policy.rules.get(name)
    if rule is None:
        return Explanation(name, "switched off", "it is switched off in the configuration")
    news = status.failing is None
    condition = conditions.of_batch(name, policy, status, account, now, news=news)
    why, begins = _facts(name, status, account, policy)
    present = {state.name: state for state in status.alerts}
    state = present.get(name)
    if state is not None and state.phase is Phase.FIRING:
        since = f"since {words.instant(state.since)}"
        clearing = "; it is clear, and will be resolved when it stays so" if state.clear_since else ""
        return Explanation(name, "firing", f"{why}; firing {since}{clearing}")
    if state is not None and state.phase is Phase.TOLD:
        return Explanation(name, "told", why)
    if condition.holds is None:
        moves = "" if news or name is AlertName.BATCH_UNREACHABLE else _NOTHING_MOVES
        return Explanation(name, "inactive" if state is None else "pending", f"{why}{moves}")
    over = alerts.superseder(name, present)
    if condition.holds and over is not None and over.phase is Phase.FIRING:
        return Explanation(name, "inactive", f"{why}; {over.name} fires and says more")
    if condition.holds:
        begins = _since(condition, state.since if state else now, now)
        holds = f"; it must hold for {words.duration(rule.hold)}" if rule.hold else ""
        unconfirmed = "" if condition.ripe else "; it must be seen once more"
        why = f"{why}{holds}{unconfirmed}"
    standing = "pending" if condition.holds else "inactive"
    if begins is None:
        return Explanation(name, standing, why)
    held = next((one.name for one in account.alerts if one.phase is Phase.FIRING), None)
    if held is not None:
        return Explanation(name, standing, f"{why}; held back while {held} fires")
    fires_at, closes = max(now, begins + rule.hold), _closes(status)
    if name in _INSIDE_THE_WINDOW and closes is not None and fires_at >= closes:
        return Explanation(name, standing, f"{why}; its window closes before that")
    return Explanation(name, standing, why, fires_at)


_NOTHING_MOVES = "; nothing was seen of it since, so nothing moves"

_INSIDE_THE_WINDOW = frozenset(
    {AlertName.BATCH_STALLED, AlertName.BATCH_WINDOW_AT_RISK, AlertName.BATCH_PAUSED_TOO_LONG}
)
"""The alerts that are over when the window is: from then on the batch is overdue."""


def _closes(status: Status) -> datetime | None:
    """When its window closes, by our clock."""
    if status.progress is None or status.progress.last.window_end is None:
        return None
    return status.progress.last.window_end + _ours(status, status.progress.last)


def _ours(status: Status, seen: Observation) -> timedelta:
    """Our clock minus the API's."""
    return (status.last_success_at or seen.at) - seen.at


def _since(condition: Condition, pending_since: datetime, now: datetime) -> datetime:
    return min(condition.since or pending_since, now)


def _facts(
    name: AlertName, status: Status, account: AccountStatus, policy: Policy
) -> tuple[str, datetime | None]:
    """The numbers compared, and from when the condition would hold if nothing changed (our clock)."""
    if name is AlertName.BATCH_UNREACHABLE:
        return _unreachable(status, account), None
    if name is AlertName.BATCH_GONE:
        missing = status.failing.not_found if status.failing else 0
        return f"{missing} answers in a row that it is not found; {GONE_AFTER} are needed", None
    if status.progress is None:
        return "it has never been observed", None
    seen = status.progress.last
    ours = _ours(status, seen)
    match name:
        case AlertName.BATCH_STALLED:
            return _stalled(status, seen, ours)
        case AlertName.BATCH_WINDOW_AT_RISK:
            return _at_risk(status, seen), None
        case AlertName.BATCH_OVERDUE:
            return _overdue(status, seen, ours)
        case AlertName.BATCH_PAUSED_TOO_LONG:
            since = status.progress.paused_since
            said = "it is not paused" if since is None else f"paused since {words.instant(since)}"
            return said, None
        case AlertName.BATCH_FAILURE_RATE_HIGH:
            return _failing_calls(status, policy), None
        case _:
            return _ended(status, account, policy), None


def _stalled(status: Status, seen: Observation, ours: timedelta) -> tuple[str, datetime | None]:
    idle, limit = status.assessment.idle_seconds, status.assessment.stall_after_seconds
    if idle is None or limit is None:
        return f"no call is expected now: {status.assessment.why}", None
    cap = " (the account is at its cap)" if status.around.at_cap else ""
    said = f"no call for {words.duration(idle)} of {words.duration(limit)}{cap}"
    return said, seen.at + ours + timedelta(seconds=max(0.0, limit - idle))


def _at_risk(status: Status, seen: Observation) -> str:
    assessed = status.assessment
    if seen.window_end is None:
        return "its window has no end"
    if assessed.state is State.OVERDUE:
        return "its window is over: it is overdue"
    if assessed.projected_missed is None:
        if seen.ended_at is not None:
            return "it has ended"
        return "nothing is foretold while it is paused" if seen.paused else "no pace is known yet"
    span = ""
    if assessed.projected_missed_range is not None:
        fewest, most = assessed.projected_missed_range
        span = f" ({fewest:,} to {most:,})"
    paces = ""
    if assessed.calls_per_second is not None and assessed.needed_calls_per_second is not None:
        paces = f": it makes {words.pace(assessed.calls_per_second)}, {words.pace(assessed.needed_calls_per_second)} are needed"
    return f"about {words.calls(assessed.projected_missed)}{span} will be left unmade{paces}"


def _overdue(status: Status, seen: Observation, ours: timedelta) -> tuple[str, datetime | None]:
    if seen.ended_at is not None:
        return "it has ended", None
    if seen.window_end is None:
        return "its window has no end", None
    if seen.remaining == 0:
        return "all its calls are made", None
    if status.assessment.state is State.OVERDUE:
        return f"its window closed at {words.instant(seen.window_end)}, and it has not ended", None
    end = status.assessment.estimated_end
    said = f"its window closes at {words.instant(seen.window_end)}"
    if end is not None and end <= seen.window_end:
        return f"{said}; it would be done before that", None
    return said, seen.window_end + ours


def _failing_calls(status: Status, policy: Policy) -> str:
    outcomes = status.outcomes
    if outcomes is None:
        return "the outcomes of its calls have not been read yet"
    ratio = outcomes.error_ratio
    if ratio is None:
        return "no call has come to an outcome yet"
    return (
        f"{outcomes.error:,} of {words.calls(outcomes.success + outcomes.error)} failed ({words.percent(ratio)}); "
        f"{words.percent(policy.failure_ratio)} are needed, of at least {words.calls(policy.failure_min_calls)}"
    )


def _unreachable(status: Status, account: AccountStatus) -> str:
    failing = status.failing
    if failing is None:
        return "its latest poll succeeded"
    answered = account.last_success_at is not None and account.last_success_at > failing.since
    since = "has" if answered else "has not"
    return (
        f"{failing.count} polls in a row failed since {words.instant(failing.since)}, "
        f"{conditions.UNREACHABLE_POLLS} are needed; the account {since} answered after the first"
    )


def _ended(status: Status, account: AccountStatus, policy: Policy) -> str:
    if status.progress is None or status.progress.last.ended_at is None:
        return "it has not ended"
    seen, outcomes = status.progress.last, status.final_outcomes
    if seen.ended_at is not None and conditions.is_history(seen.ended_at, account):
        return f"it ended at {words.instant(seen.ended_at)}, before its account was watched: history"
    tolerated = max(policy.unmade_over_count, policy.unmade_over_ratio * seen.total)
    failed = "outcomes unknown" if outcomes is None else f"{outcomes.error:,} failed"
    confirmed = "" if status.progress.end_seen >= CONFIRMED else ", seen once"
    return (
        f"ended{confirmed} with {words.calls(seen.remaining)} not made ({tolerated:g} tolerated) and {failed} "
        f"({words.percent(policy.failed_ratio)} count as incomplete)"
    )

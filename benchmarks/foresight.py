"""`python -m benchmarks.foresight`: who is warned of what, how early, and how often wrongly.

Three contenders look at the same campaigns (campaigns.py): the monitor, through its real evaluation and
its real alert steps; the plain linear extrapolation from the start; and a Prometheus rule of the form
`predict_linear(remaining[30m], seconds to the window's end) > 0`, each with `for: 10m`.

A batch is doomed when it leaves 1 % of its calls or more unmade, healthy when it leaves none; what lies
between counts as neither. A warning is any firing before the window's end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from benchmarks.campaigns import STEP, Campaign, campaigns
from monitor import decisions, evaluate, throttles
from monitor.alerts import Policy, default_rule
from monitor.decisions import Voice
from monitor.evaluate import Rules
from monitor.model import (
    AccountStatus,
    AlertName,
    BatchKey,
    Circumstances,
    MessageKind,
    Observation,
    Progress,
    Status,
    Target,
)

HOLD = timedelta(minutes=10)
LOOKBACK = timedelta(minutes=30)
RULES = Rules(interval=STEP)
AT_RISK = AlertName.BATCH_WINDOW_AT_RISK  # alone: in life BatchStalled supersedes it where nothing moves


@dataclass
class Told:
    """What one contender said of one campaign."""

    fired: list[datetime] = field(default_factory=list)  # the beginning of each episode
    etas: dict[datetime, datetime | None] = field(default_factory=dict)
    missed: dict[datetime, tuple[int, int, int] | None] = field(default_factory=dict)  # fewest, likely, most


def monitor(campaign: Campaign) -> Told:
    """What this project says: evaluate, decide, as the daemon does."""
    told, progress = Told(), None
    account = AccountStatus("main", watched_since=campaign.truth[0].at - HOLD)
    voice = Voice(Policy({AT_RISK: default_rule(AT_RISK)}))
    status = Status(Target("main", BatchKey("a", "b")), "batch", "agent", evaluate.assess(None, None, RULES))
    for seen in campaign.seen:
        if seen is None:
            continue
        around = _around(campaign, progress, seen)
        progress = evaluate.observe(progress, seen, RULES, around)
        assessed = evaluate.assess(progress, None, RULES, around)
        status = replace(
            status, progress=progress, assessment=assessed, around=around, last_success_at=seen.at
        )
        outcome = decisions.decide_batch(status, account, voice, seen.at, news=True)
        status = replace(status, alerts=outcome.alerts)
        for said in outcome.said:
            if said.kind is MessageKind.FIRING and seen.at < campaign.truth[-1].at:
                told.fired.append(seen.at)
        told.etas[seen.at] = assessed.estimated_end
        if assessed.projected_missed is not None and assessed.projected_missed_range is not None:
            fewest, most = assessed.projected_missed_range
            told.missed[seen.at] = (fewest, assessed.projected_missed, most)
    return told


def _around(campaign: Campaign, progress: Progress | None, seen: Observation) -> Circumstances:
    if campaign.throttle is None:
        return Circumstances(at_cap=campaign.at_cap)
    marks = throttles.marked(progress.marks if progress else (), seen)
    found = throttles.standing(campaign.throttle, [throttles.usage(seen, marks)], seen.at)
    return Circumstances(found.spent, found.why, campaign.at_cap, found.most_calls_per_second)


def linear(campaign: Campaign) -> Told:
    """The mean since the window opened, for ever."""
    told, since = Told(), None
    for seen in campaign.seen:
        if seen is None or seen.window_start is None or seen.window_end is None:
            continue
        elapsed = (seen.at - seen.window_start).total_seconds()
        pace = seen.completed / elapsed if elapsed else 0.0
        left = (seen.window_end - seen.at).total_seconds()
        holds = elapsed > 0 and left > 0 and seen.remaining - pace * left > 0.5
        since = _held(told, seen.at, holds=holds, since=since, end=seen.window_end)
        told.etas[seen.at] = seen.at + timedelta(seconds=seen.remaining / pace) if pace else None
    return told


def predict_linear(campaign: Campaign) -> Told:
    """Least squares over the last half hour of calls remaining, as Prometheus reckons it."""
    told, since = Told(), None
    recent: list[Observation] = []
    for seen in campaign.seen:
        if seen is None or seen.window_end is None:
            continue
        recent = [one for one in [*recent, seen] if seen.at - one.at <= LOOKBACK]
        if len(recent) < 2:
            continue
        times = [(one.at - seen.at).total_seconds() for one in recent]
        values = [float(one.remaining) for one in recent]
        slope, level = _least_squares(times, values)
        left = (seen.window_end - seen.at).total_seconds()
        holds = left > 0 and level + slope * left > 0.5
        since = _held(told, seen.at, holds=holds, since=since, end=seen.window_end)
        told.etas[seen.at] = seen.at + timedelta(seconds=-level / slope) if slope < -1e-9 else None
    return told


def _least_squares(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope, and the value at time 0."""
    mean_time, mean_value = sum(times) / len(times), sum(values) / len(values)
    spread = sum((time - mean_time) ** 2 for time in times)
    pairs = zip(times, values, strict=True)
    slope = (
        sum((time - mean_time) * (value - mean_value) for time, value in pairs) / spread if spread else 0.0
    )
    return slope, mean_value - slope * mean_time


def _held(told: Told, at: datetime, *, holds: bool, since: datetime | None, end: datetime) -> datetime | None:
    """One step of a Prometheus rule with `for: 10m`."""
    if not holds:
        return None
    since = since or at
    firing = bool(told.fired) and told.fired[-1] >= since
    if not firing and at - since >= HOLD and at < end:
        told.fired.append(at)
    return since


MENDED = "late fix"
"""Slow until somebody mends it: the warning was right when it was given."""

CONTENDERS = {"monitor": monitor, "linear from the start": linear, "predict_linear 30m": predict_linear}


def judged(runs: Iterable[tuple[Campaign, Told]]) -> dict[str, float | int | None]:
    """The columns of the table."""
    pairs = list(runs)
    doomed = [
        (campaign, told) for campaign, told in pairs if campaign.missed >= 0.01 * campaign.truth[-1].total
    ]
    healthy = [(campaign, told) for campaign, told in pairs if campaign.missed == 0]
    leads = sorted(
        (campaign.truth[-1].at - told.fired[0]) / campaign.window for campaign, told in doomed if told.fired
    )
    found: dict[str, float | int | None] = {
        "doomed": len(doomed),
        "warned": _share(len(leads), len(doomed)),
        "lead_median": median(leads) if leads else None,
        "lead_p10": leads[len(leads) // 10] if leads else None,
        "healthy": len(healthy),
        "wrongly": _share(sum(bool(told.fired) for _, told in healthy), len(healthy)),
        "episodes": _share(sum(len(told.fired) for _, told in pairs), sum(bool(t.fired) for _, t in pairs)),
    }
    for part in (25, 50, 75):
        errors, inside, asked = [], 0, 0
        for campaign, told in pairs:
            if campaign.done_at is not None:
                run = campaign.done_at - campaign.truth[0].at
                at = _latest(told.etas, campaign.truth[0].at + run * part / 100)
                eta = told.etas[at] if at is not None else None
                errors.append(abs(eta - campaign.done_at) / run if eta is not None else float("inf"))
            at = _latest(told.missed, campaign.truth[0].at + campaign.window * part / 100)
            span = told.missed[at] if at is not None else None
            if span is not None:
                asked += 1
                inside += span[0] <= campaign.missed <= span[2]
        found[f"eta_error_{part}"] = median(errors) if errors else None
        found[f"range_holds_{part}"] = _share(inside, asked)
    return found


def _latest(known: dict[datetime, Any], at: datetime) -> datetime | None:
    return max((one for one in known if one <= at), default=None)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


COLUMNS = (
    ("doomed", "doomed", "{:.0f}"),
    ("warned", "warned of", "{:.0%}"),
    ("lead_median", "median before the end*", "{:.0%}"),
    ("lead_p10", "10th percentile*", "{:.0%}"),
    ("healthy", "healthy", "{:.0f}"),
    ("wrongly", "wrongly warned of", "{:.0%}"),
    ("wrongly_unmended", "the same, but for those that somebody mended", "{:.0%}"),
    ("episodes", "firings each", "{:.2f}"),
    ("eta_error_25", "ETA off at 25 %**", "{:.0%}"),
    ("eta_error_50", "at 50 %**", "{:.0%}"),
    ("eta_error_75", "at 75 %**", "{:.0%}"),
    ("range_holds_25", "range holds at 25 %", "{:.0%}"),
    ("range_holds_50", "at 50 %", "{:.0%}"),
    ("range_holds_75", "at 75 %", "{:.0%}"),
)


def table(rows: dict[str, dict[str, float | int | None]]) -> str:
    """For people: a row for each measure, a column for each contender."""
    names = list(rows)
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for key, title, form in COLUMNS:
        cells = [form.format(value) if (value := rows[name].get(key)) is not None else "-" for name in names]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "*of the window; **median error, of the run, of those that were done"])


def story(campaign: Campaign) -> str:
    """One campaign, told with its times."""
    told = monitor(campaign)
    last = campaign.truth[-1]
    window = f"from {campaign.truth[0].at:%H:%M} to {last.at:%H:%M}"
    lines = [f"{campaign.kind}/{campaign.index}: {last.total} calls {window}, margin {campaign.margin:.2f}"]
    for at in told.fired:
        seen = next(one for one in campaign.truth if one.at == at)
        fewest, likely, most = told.missed.get(at) or (seen.remaining,) * 3
        lines.append(
            f"  {at:%H:%M} warned at {seen.completed} of {seen.total} done: "
            f"about {likely} will be missed ({fewest} to {most})"
        )
    lines.append(f"  {last.at:%H:%M} ended at {last.completed} of {last.total}: {campaign.missed} missed")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=390)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--by-kind", action="store_true", help="the monitor's row for each kind of campaign")
    parser.add_argument("--story", metavar="KIND/INDEX", help="one campaign, told with its times")
    asked = parser.parse_args()
    made = list(campaigns(asked.campaigns, asked.seed))
    if asked.story:
        print(next(story(one) for one in made if f"{one.kind}/{one.index}" == asked.story))
        return
    if asked.by_kind:
        kinds = {one.kind for one in made}
        runs = [(one, monitor(one)) for one in made]
        rows = {kind: judged(run for run in runs if run[0].kind == kind) for kind in sorted(kinds)}
    else:
        runs_of = {name: [(one, look(one)) for one in made] for name, look in CONTENDERS.items()}
        rows = {name: judged(runs) for name, runs in runs_of.items()}
        for name, runs in runs_of.items():
            rows[name]["wrongly_unmended"] = judged(run for run in runs if run[0].kind != MENDED)["wrongly"]
    print(json.dumps(rows) if asked.json else table(rows))


if __name__ == "__main__":
    main()

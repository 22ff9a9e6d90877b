"""Campaign: one batch. Will it be done in time, and if not, why? The batch_id alone opens it."""

from __future__ import annotations

from deploy.grafana.source.panels import (
    MOMENT,
    Column,
    Json,
    Query,
    annotation,
    colors,
    curves,
    fixed,
    mapping,
    override,
    page,
    stat,
    table,
    thresholds,
    timeline,
    variable,
    words,
)
from deploy.grafana.source.promql import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    PER_HOUR,
    RED,
    SEVERITIES,
    STATE_TEXTS,
    STATUSES,
    named,
    needed_pace,
    of,
    state,
)

THIS = 'batch_id="$batch_id"'
NAME = named(THIS)
NOT_WATCHED = "This batch is not watched."
DASHED = {
    "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
    "custom.lineWidth": 2,
    "custom.fillOpacity": 0,
}


def _batch(metric: str, *, factor: int = 1) -> str:
    scaled = of(f"ultravox_batch_{metric}", THIS)
    return scaled if factor == 1 else f"{factor} * {scaled}"


def _plan() -> str:
    """How many calls would be made by now if they were spread evenly over the window."""
    start = f"({_batch('window_start_timestamp_seconds')} or {_batch('created_timestamp_seconds')})"
    return (
        f"clamp((time() - {start}) / ({_batch('window_end_timestamp_seconds')} - {start}), 0, 1)\n"
        f"* {_batch('calls')}"
    )


def _tiles() -> list[tuple[int, Json]]:
    left = f"{_batch('calls')} - {_batch('completed_calls')}"
    pace, needed = f"3600 * {_batch('completed_calls_per_second')}", f"3600 * ({needed_pace(THIS)})"
    enough = {"mode": "absolute", "steps": [{"color": "text", "value": None}]}
    return [
        (
            3,
            stat(
                "State",
                "What the batch is doing, as the monitor sees it.",
                Query(state(THIS)),
                unit="none",
                empty=NOT_WATCHED,
                texts=STATE_TEXTS,
                filled=True,
            ),
        ),
        (
            3,
            stat(
                "Progress",
                "Calls made, of all. Calls that failed count as made.",
                Query(_batch("completion_ratio")),
                unit="percentunit",
                empty="no calls yet",
                levels=thresholds(BLUE),
                decimals=1,
            ),
        ),
        (
            3,
            stat(
                "Calls left",
                "Calls that are not made yet.",
                Query(left),
                unit="none",
                empty="unknown",
                decimals=0,
            ),
        ),
        (
            3,
            stat(
                "Pace",
                "Calls made in an hour: the mean over the recent time in which calls were expected.",
                Query(pace),
                unit=PER_HOUR,
                empty="none yet",
                levels=enough,
                decimals=0,
            ),
        ),
        (
            3,
            stat(
                "Needed pace",
                "Calls in an hour that would just make all of them before the window closes.",
                Query(needed),
                unit=PER_HOUR,
                empty="no window, or it is over",
                levels=enough,
                decimals=0,
            ),
        ),
        (
            3,
            stat(
                "Estimated end",
                "When the last call would be made at the present pace.",
                Query(_batch("estimated_end_timestamp_seconds", factor=1000)),
                unit=MOMENT,
                empty="not at this pace",
            ),
        ),
        (
            3,
            stat(
                "Window ends",
                "Until when calls may be made.",
                Query(_batch("window_end_timestamp_seconds", factor=1000)),
                unit=MOMENT,
                empty="no end is set",
            ),
        ),
        (
            3,
            stat(
                "To be missed",
                "Calls that will be left unmade when the window closes, if things go on as they do.",
                Query(_batch("projected_missed_calls")),
                unit="none",
                empty="no forecast",
                levels=thresholds(GREEN, (1, AMBER), (50, RED)),
                decimals=0,
            ),
        ),
    ]


def _facts() -> Json:
    instant = {"unit": MOMENT}

    def at(metric: str) -> str:
        return f"{_batch(metric, factor=1000)}"

    return table(
        "Facts",
        "What is known of the batch, with the labels that the configuration gives it. Empty: the API does not say, or not yet.",
        [
            Column("Account", label="account", width=90),
            Column("Agent", label="agent", width=110),
            Column("Batch", expr=NAME, label="batch"),
            Column("Throttle", label="throttle", width=84, look={"noValue": "none"}),
            Column("Created", expr=at("created_timestamp_seconds"), width=112, look=instant),
            Column("Window opens", expr=at("window_start_timestamp_seconds"), width=112, look=instant),
            Column("Last call seen", expr=at("last_progress_timestamp_seconds"), width=112, look=instant),
            Column("Last looked at", expr=at("last_success_timestamp_seconds"), width=112, look=instant),
            Column(
                "Ended", expr=at("ended_timestamp_seconds"), width=112, look={**instant, "noValue": "not yet"}
            ),
            Column("Batch ID", label="batch_id", width=290),
        ],
        empty=NOT_WATCHED,
        rest=True,
        hide=("agent_id", "Value #A"),
    )


def _progress() -> Json:
    return curves(
        "Progress against the window",
        "Calls made, and where they should be if they were spread evenly from the opening of the window (without one, from the creation of the batch) to its end. Below the dashed line the batch is behind.",
        Query(_batch("completed_calls"), "made"),
        Query(_plan(), "should be"),
        Query(_batch("calls"), "all calls"),
        unit="none",
        empty=NOT_WATCHED,
        fill=18,
        overrides=[
            override("made", {"color": fixed(BLUE)}),
            override("should be", {"color": fixed(AMBER), **DASHED}),
            override("all calls", {"color": fixed(GREY), "custom.fillOpacity": 0, "custom.lineWidth": 1}),
        ],
        calcs=("lastNotNull",),
        decimals=0,
    )


def _pace() -> Json:
    return curves(
        "Pace against needed pace",
        "Calls in an hour. While the pace is below the dashed line, calls will be left unmade when the window closes.",
        Query(f"3600 * {_batch('completed_calls_per_second')}", "pace"),
        Query(f"3600 * ({needed_pace(THIS)})", "needed"),
        unit=PER_HOUR,
        empty="No calls have been expected yet.",
        overrides=[
            override("pace", {"color": fixed(BLUE)}),
            override("needed", {"color": fixed(AMBER), **DASHED}),
        ],
        calcs=("lastNotNull",),
        decimals=0,
    )


def _outcomes() -> Json:
    return curves(
        "Outcomes",
        "What has become of all calls: success, error, expired (the window closed first), pending, future. Read every few minutes while the batch is under way.",
        *(Query(of("ultravox_batch_scheduled_calls", f'status="{name}",{THIS}'), name) for name in STATUSES),
        unit="none",
        empty="Not read yet: outcomes are read once calls have been made.",
        stacked=True,
        overrides=[*colors(STATUSES), override("future", {"custom.fillOpacity": 15})],
        calcs=("lastNotNull",),
        decimals=0,
    )


def _history() -> Json:
    severity = "\n  or ".join(
        f'{number} * ultravox_batch_alert_firing{{severity="{name}",{THIS}}}'
        for name, (number, _) in SEVERITIES.items()
    )
    texts = [
        {
            **STATE_TEXTS[0],
            "options": {
                **STATE_TEXTS[0]["options"],
                **mapping({number: (name, color) for name, (number, color) in SEVERITIES.items()})[0][
                    "options"
                ],
            },
        }
    ]
    return timeline(
        "State and alerts",
        "What the batch was doing when, and which alerts fired for it.",
        Query(state(THIS), "state"),
        Query(f"max by (alert) (\n    {severity}\n)", "{{alert}}"),
        texts=texts,
        empty=NOT_WATCHED,
    )


def _clock() -> Json:
    return curves(
        "Stall clock",
        "Expected time without progress, and the limit at which the batch counts as stalled. It stands while no call is expected: outside the window, paused, throttle spent.",
        Query(f"{_batch('idle_seconds')} / 60", "without progress"),
        Query(f"{_batch('stall_after_seconds')} / 60", "stalled from"),
        unit="m",
        empty="No call is expected now: the clock stands.",
        overrides=[
            override("without progress", {"color": fixed(BLUE)}),
            override("stalled from", {"color": fixed(RED), **DASHED}),
        ],
    )


def _lines() -> Json:
    of_account = f"and on (account) {NAME}"
    return curves(
        "Calls at once, of its account",
        "Active calls of the account that the batch belongs to, and how many it may make at once. At the cap all its batches are slow.",
        Query(f"max by (account) (ultravox_account_active_calls)\n{of_account}", "active"),
        Query(f"max by (account) (ultravox_account_allowed_concurrent_calls)\n{of_account}", "cap"),
        unit="none",
        empty="The account has not answered yet.",
        overrides=[
            override("active", {"color": fixed(BLUE)}),
            override("cap", {"color": fixed(RED), **DASHED}),
        ],
        decimals=0,
    )


ASK = """
```sh
# why its alerts fire or do not, with the cause
batch-monitor explain ${batch_id:raw}

# whom to call again
batch-monitor uncalled ${batch_id:raw}

# hold its messages
batch-monitor mute ${batch_id:raw} --for 2h
```
"""


def dashboard() -> Json:
    """The page."""
    alerts = f"max by (alert, severity) (ultravox_batch_alert_firing{{{THIS}}})"
    account = 'account=~"$account"'
    return page(
        "ultravox-campaign",
        "Ultravox campaign",
        "One call batch: is it on its way, and if not, why?",
        variables=[
            variable(
                "account",
                "Account",
                "label_values(ultravox_batch_info, account)",
                "Narrows the list of batches.",
            ),
            variable(
                "agent",
                "Agent",
                f"label_values(ultravox_batch_info{{{account}}}, agent)",
                "Narrows the list of batches.",
            ),
            variable(
                "batch_id",
                "Batch",
                f'query_result(max by (batch, batch_id) (ultravox_batch_info{{{account},agent=~"$agent"}}))',
                "The batch that is shown.",
                several=False,
                regex='/batch="(?<text>.*)",batch_id="(?<value>[^"]*)"/',
            ),
        ],
        annotations=[
            annotation("Pauses", f"{_batch('paused')} == 1", "yellow", "paused"),
            annotation("Alerts", alerts, "red", "{{alert}}"),
        ],
        rows=[
            (4, _tiles()),
            (4, [(24, _facts())]),
            (11, [(14, _progress()), (10, _pace())]),
            (9, [(14, _outcomes()), (10, _history())]),
            (
                8,
                [
                    (8, _clock()),
                    (8, _lines()),
                    (
                        8,
                        words(
                            "Ask the monitor",
                            "Commands for a terminal where batch-monitor is installed.",
                            ASK,
                        ),
                    ),
                ],
            ),
        ],
    )

"""Campaigns: every batch at a glance, the worst first. Who needs somebody now?"""

from __future__ import annotations

from deploy.grafana.source.panels import (
    MOMENT,
    Column,
    Json,
    Query,
    choice,
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
)
from deploy.grafana.source.promql import (
    AMBER,
    BLUE,
    GREEN,
    NOT_SCRAPED,
    PER_HOUR,
    RED,
    SEVERITIES,
    STATE_TEXTS,
    STATES,
    STATUSES,
    named,
    needed_pace,
    of,
    or_zero,
    state,
    with_names,
)

ACCOUNT = 'account=~"$account"'
NAMES = named('account=~"$account",agent=~"$agent",batch=~"$batch"')
NO_BATCHES = f"No batch is watched, none fits the variables above, or: {NOT_SCRAPED}"
TO_CAMPAIGN = [
    {
        "title": "Open ${__value.text}",
        "url": "/d/ultravox-campaign?var-batch_id=${__data.fields.batch_id}&${datasource:queryparam}&${__url_time_range}",
    }
]
BADGE = {"custom.align": "center", "custom.cellOptions": {"type": "color-background", "mode": "basic"}}
HIDDEN = {"custom.hidden": True, "custom.hideFrom": {"viz": True, "legend": True, "tooltip": True}}
PROGRESS = {
    "unit": "percentunit",
    "min": 0,
    "max": 1,
    "decimals": 0,
    "color": fixed(BLUE),
    "custom.cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
}


def _among(states: str) -> str:
    """The batches of the variables that are in one of these states."""
    chosen = f'max by (batch_id) (ultravox_batch_state{{state=~"$state",state=~"{states}"}}) == 1'
    return f"({NAMES} and on (batch_id) ({chosen}))"


NOT_OVER = _among("|".join(name for name in STATES if name not in {"ended", "incomplete"}))


def _column(values: str, names: str, *, factor: int = 1) -> str:
    scaled = values if factor == 1 else f"{factor} * {values}"
    return f"{scaled}\nand on (batch_id) {names}"


def _count(condition: str) -> str:
    return or_zero(f"count({condition}\nand on (batch_id) {NAMES})")


def _tiles() -> Json:
    shown = ("overdue", "stalled", "gone", "paused", "unknown", "waiting", "running")
    at_risk = (
        f"({of('ultravox_batch_projected_missed_calls', ACCOUNT)} > 0)"
        f' and on (batch_id) ({of("ultravox_batch_state", f"""state="running",{ACCOUNT}""")} == 1)'
    )
    queries = [
        Query(_count(f'({of("ultravox_batch_state", f"""state="{name}",{ACCOUNT}""")} == 1)'), name)
        for name in shown
    ]
    queries.insert(2, Query(_count(at_risk), "at risk"))
    return stat(
        "Batches now",
        "How many batches are in which state. At risk: running, and at the present pace calls will be left unmade when the window closes (these count as running, too).",
        *queries,
        unit="none",
        empty=NOT_SCRAPED,
        filled=True,
        overrides=[
            override(name, {"thresholds": thresholds("transparent", (1, color))})
            for name, color in [(name, STATES[name][1]) for name in shown] + [("at risk", AMBER)]
        ],
    )


def _made() -> Json:
    made, calls = (of(f"ultravox_batch_{name}", ACCOUNT) for name in ("completed_calls", "calls"))
    return stat(
        "Calls made",
        "Of all calls of the batches that are not over. Calls that failed count as made.",
        Query(f"sum({_column(made, NOT_OVER)})\n/ sum({_column(calls, NOT_OVER)})"),
        unit="percentunit",
        empty="no batch is under way",
        levels=thresholds(BLUE),
        decimals=0,
    )


def _missed() -> Json:
    missed = of("ultravox_batch_projected_missed_calls", ACCOUNT)
    return stat(
        "To be missed",
        "Calls that will be left unmade when windows close, if things go on as they do: people who are not called. Over all batches that are not over.",
        Query(or_zero(f"sum({_column(missed, NOT_OVER)})")),
        unit="short",
        empty=NOT_SCRAPED,
        levels=thresholds(GREEN, (1, AMBER), (100, RED)),
        decimals=0,
    )


def _firing() -> Json:
    return stat(
        "Alerts firing",
        "What the monitor itself says is wrong now. An end with people not reached counts for an hour; ends that went well do not.",
        Query(
            or_zero(
                f'count(count by (alert, account, batch_id) (ultravox_batch_alert_firing{{{ACCOUNT},severity!="info"}}))'
            )
        ),
        unit="none",
        empty=NOT_SCRAPED,
        levels=thresholds(GREEN, (1, RED)),
    )


def _batches() -> Json:
    def column(metric: str, *, factor: int = 1) -> str:
        return _column(of(f"ultravox_batch_{metric}", ACCOUNT), NOT_OVER, factor=factor)

    late = {"thresholds": thresholds("text", (1, RED)), "custom.cellOptions": {"type": "color-text"}}
    return table(
        "Batches that are not over",
        "The worst first. Pace and needed pace in calls an hour: needed is what would just make all calls before the window closes. Click a name for its own page.",
        [
            Column(
                "State",
                expr=with_names(state(ACCOUNT), NOT_OVER, "batch, agent, account"),
                width=96,
                look={**BADGE, "mappings": STATE_TEXTS},
            ),
            Column("Batch", label="batch", look={"links": TO_CAMPAIGN, "custom.minWidth": 150}),
            Column("Agent", label="agent", width=112),
            Column("Account", label="account", width=84),
            Column("Progress", expr=column("completion_ratio"), width=170, look=PROGRESS),
            Column(
                "Calls left",
                expr=_column(
                    f"{of('ultravox_batch_calls', ACCOUNT)} - {of('ultravox_batch_completed_calls', ACCOUNT)}",
                    NOT_OVER,
                ),
                width=82,
                look={"decimals": 0},
            ),
            Column(
                "Pace",
                expr=column("completed_calls_per_second", factor=3600),
                width=76,
                look={"unit": PER_HOUR, "decimals": 0},
            ),
            Column(
                "Needed",
                expr=f"3600 * ({needed_pace(ACCOUNT)})\nand on (batch_id) {NOT_OVER}",
                width=76,
                look={"unit": PER_HOUR, "decimals": 0},
            ),
            Column(
                "Estimated end",
                expr=column("estimated_end_timestamp_seconds", factor=1000),
                width=118,
                look={"unit": MOMENT},
            ),
            Column(
                "Window ends",
                expr=column("window_end_timestamp_seconds", factor=1000),
                width=118,
                look={"unit": MOMENT},
            ),
            Column("Missed", expr=column("projected_missed_calls"), width=76, look={**late, "decimals": 0}),
            Column("batch_id", label="batch_id", look=HIDDEN),
        ],
        empty=f"Nothing is under way. {NO_BATCHES}",
        sort=("State", True),
    )


def _alerts() -> Json:
    severity = "\n  or ".join(
        f'{number} * ultravox_batch_alert_firing{{severity="{name}",{ACCOUNT}}}'
        for name, (number, _) in SEVERITIES.items()
    )
    key = "alert, account, batch, batch_id"
    firing = f"max by ({key}) (ultravox_batch_alert_firing{{{ACCOUNT}}})"
    return table(
        "Alerts that fire",
        "What the monitor itself says is wrong now, with accounts' own alerts. For: how long it has fired within the time shown above. `batch-monitor explain BATCH_ID` says why.",
        [
            Column(
                "Severity",
                expr=f"max by ({key}) (\n    {severity}\n)",
                width=84,
                look={
                    **BADGE,
                    "mappings": mapping(
                        {number: (name, color) for name, (number, color) in SEVERITIES.items()}
                    ),
                },
            ),
            Column("Alert", label="alert", width=176),
            Column("Batch", label="batch", look={"links": TO_CAMPAIGN, "noValue": "the whole account"}),
            Column("Account", label="account", width=84),
            Column(
                "For",
                expr=f"60 * count_over_time({firing}[$__range:1m])\nand on ({key}) {firing}",
                width=90,
                look={"unit": "dtdurations", "decimals": 0},
            ),
            Column("batch_id", label="batch_id", look=HIDDEN),
        ],
        empty=f"No alert fires, or: {NOT_SCRAPED}",
        sort=("Severity", True),
    )


def _ended() -> Json:
    ended = f"({of('ultravox_batch_ended_timestamp_seconds', ACCOUNT)} > time() - 86400)"
    over = f"({NAMES} and on (batch_id) {ended})"

    def status(name: str, by: str = "") -> str:
        return _column(of("ultravox_batch_scheduled_calls", f'status="{name}",{ACCOUNT}') + by, over)

    return table(
        "Ended in the last day",
        "The latest first. Reached: calls that succeeded, of all; failed: calls that were made and failed; not called: left when the window closed. `batch-monitor uncalled BATCH_ID` lists whom to call again.",
        [
            Column(
                "Ended",
                expr=with_names(f"1000 * {ended}", NAMES, "batch, agent, account"),
                width=108,
                look={"unit": MOMENT},
            ),
            Column(
                "Outcome",
                expr=_column(state(ACCOUNT), over),
                width=96,
                look={**BADGE, "mappings": STATE_TEXTS},
            ),
            Column("Batch", label="batch", look={"links": TO_CAMPAIGN}),
            Column(
                "Calls",
                expr=_column(of("ultravox_batch_calls", ACCOUNT), over),
                width=62,
                look={"decimals": 0},
            ),
            Column(
                "Reached",
                expr=status("success", f" / ({of('ultravox_batch_calls', ACCOUNT)} > 0)"),
                width=118,
                look={**PROGRESS, "color": fixed(STATUSES["success"])},
            ),
            Column("Failed", expr=status("error"), width=66, look={"decimals": 0}),
            Column(
                "Not called",
                expr=status("expired"),
                width=86,
                look={
                    "decimals": 0,
                    "thresholds": thresholds("text", (1, RED)),
                    "custom.cellOptions": {"type": "color-text"},
                },
            ),
            Column("batch_id", label="batch_id", look=HIDDEN),
        ],
        empty="No batch has ended within 24 hours, or those that have are no longer watched (discover.keep_ended_for).",
        sort=("Ended", True),
    )


def _states() -> Json:
    return timeline(
        "States of all batches",
        "What each batch was doing when.",
        Query(
            with_names(
                state(ACCOUNT),
                f'({NAMES} and on (batch_id) (max by (batch_id) (ultravox_batch_state{{state=~"$state"}}) == 1))',
            ),
            "{{batch}}",
        ),
        texts=STATE_TEXTS,
        empty=NO_BATCHES,
    )


def _paces() -> Json:
    pace = of("ultravox_batch_completed_calls_per_second", ACCOUNT)
    return curves(
        "Pace",
        "Calls made in an hour, by batch: the mean over the recent time in which calls were expected.",
        Query(with_names(f"3600 * {pace}", NAMES), "{{batch}}"),
        unit=PER_HOUR,
        empty="No batch makes calls.",
        stacked=True,
        right=True,
        calcs=("lastNotNull",),
        decimals=0,
    )


def _lines() -> Json:
    return curves(
        "Calls at once",
        "Calls of each account that are active, and (dashed) how many it may make at once. An account at its cap slows all its batches.",
        Query(f"max by (account) (ultravox_account_active_calls{{{ACCOUNT}}})", "{{account}}"),
        Query(
            f"max by (account) (ultravox_account_allowed_concurrent_calls{{{ACCOUNT}}})", "cap of {{account}}"
        ),
        unit="none",
        empty="No account has answered yet.",
        overrides=[
            override(
                "/^cap of/",
                {
                    "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
                    "custom.lineWidth": 1,
                    "custom.fillOpacity": 0,
                },
                by="byRegexp",
            )
        ],
        decimals=0,
    )


def dashboard() -> Json:
    """The page."""
    return page(
        "ultravox-campaigns",
        "Ultravox campaigns",
        "Every call batch at a glance: what runs, what stalls, what will not be done in its window.",
        variables=[
            variable(
                "account",
                "Account",
                "label_values(ultravox_batch_info, account)",
                "Accounts of the monitor's configuration.",
            ),
            variable(
                "agent",
                "Agent",
                f"label_values(ultravox_batch_info{{{ACCOUNT}}}, agent)",
                "Agents by their names.",
            ),
            choice("state", "State", tuple(STATES), "Shows only batches that are in one of these states."),
            variable(
                "batch",
                "Batch",
                f'label_values(ultravox_batch_info{{{ACCOUNT},agent=~"$agent"}}, batch)',
                "Batches by their names.",
            ),
        ],
        rows=[
            (4, [(15, _tiles()), (3, _firing()), (3, _made()), (3, _missed())]),
            (11, [(24, _batches())]),
            (9, [(11, _alerts()), (13, _ended())]),
            (12, [(24, _states())]),
            (9, [(14, _paces()), (10, _lines())]),
        ],
    )

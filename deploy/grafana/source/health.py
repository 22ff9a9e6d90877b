"""Monitor: the daemon itself. Does it see everything, and would people hear of it?"""

from __future__ import annotations

from deploy.grafana.source.panels import (
    Json,
    Query,
    annotation,
    colors,
    curves,
    fixed,
    mapping,
    override,
    page,
    section,
    stat,
    thresholds,
    timeline,
    variable,
)
from deploy.grafana.source.promql import AMBER, BLUE, GREEN, GREY, NOT_SCRAPED, RED, STATES, or_zero

MONITOR = 'instance=~"$instance"'
HERE = f'{MONITOR},account=~"$account"'
RATE = "[$__rate_interval]"
PER_MINUTE = "suffix:/min"
NO_RECEIVERS = "No receiver is configured: alerts are on the page and in the metrics only."
NO_HEARTBEAT = "No heartbeat is configured."
YES_NO = mapping({1: ("ok", GREEN), 0: ("failing", RED)})


def _rate(metric: str, by: str, where: str = HERE) -> str:
    """Events a minute."""
    return f"60 * sum by ({by}) (rate(ultravox_monitor_{metric}_total{{{where}}}{RATE}))"


def _or_none(reasons: str, none: str) -> str:
    """Only the reasons that there are, and a line at 0 while there is none."""
    return f'{reasons} > 0\nor label_replace({none}, "reason", "none", "", "")'


def _age(metric: str, by: str, where: str) -> str:
    """Minutes."""
    return f"(time() - max by ({by}) (ultravox_monitor_{metric}_timestamp_seconds{{{where}}})) / 60"


def _either(
    title: str, description: str, metric: str, good: str, bad: str, *, empty: str = "unknown"
) -> tuple[int, Json]:
    """A tile for a metric that is 1 or 0, in words."""
    tile = stat(
        title,
        description,
        Query(f"min({metric})"),
        unit="none",
        empty=empty,
        texts=mapping({1: (good, GREEN), 0: (bad, RED)}),
        filled=True,
    )
    return 3, tile


def _tiles() -> list[tuple[int, Json]]:
    failing = f"sum(rate(ultravox_monitor_poll_failures_total{{{HERE}}}{RATE}))\n/ (sum(rate(ultravox_monitor_polls_total{{{HERE}}}{RATE})) > 0)"
    latency = f"histogram_quantile(0.95, sum by (le) (rate(ultravox_monitor_poll_duration_seconds_bucket{{{HERE}}}{RATE})))"
    return [
        _either(
            "Scraped",
            "Whether Prometheus reaches the monitor.",
            f"up{{{MONITOR}}}",
            "up",
            "down",
            empty="no such instance",
        ),
        _either(
            "State file",
            "Whether the monitor can write what it must not forget. If not, what it decides is forgotten at a restart.",
            f"ultravox_monitor_store_writable{{{MONITOR}}}",
            "writable",
            "failing",
        ),
        _either(
            "Configuration",
            "Whether the latest attempt to load it succeeded. If not, the one before it is in force.",
            f"ultravox_monitor_config_last_reload_successful{{{MONITOR}}}",
            "loaded",
            "refused",
        ),
        (
            3,
            stat(
                "Waiting",
                "Messages that no receiver has taken yet, all receivers together.",
                Query(or_zero(f"sum(ultravox_monitor_notifications_pending{{{MONITOR}}})", MONITOR)),
                unit="none",
                empty="unknown",
                levels=thresholds(GREEN, (1, AMBER), (20, RED)),
                decimals=0,
            ),
        ),
        (
            3,
            stat(
                "Polls failing",
                "Of the polls of batches, lately.",
                Query(failing),
                unit="percentunit",
                empty="no polls",
                levels=thresholds(GREEN, (0.05, AMBER), (0.5, RED)),
                decimals=1,
            ),
        ),
        (
            3,
            stat(
                "Latency, p95",
                "Of twenty polls nineteen are quicker.",
                Query(latency),
                unit="s",
                empty="no polls",
                levels=thresholds(GREEN, (2, AMBER), (8, RED)),
            ),
        ),
        (
            3,
            stat(
                "Watched",
                "Batches that the monitor looks at, ended ones that it still shows included.",
                Query(f"sum(ultravox_monitor_batches{{{MONITOR}}})"),
                unit="none",
                empty="none",
                levels=thresholds(BLUE),
            ),
        ),
        (
            3,
            stat(
                "Running for",
                "How long ago the process started.",
                Query(f"time() - max(process_start_time_seconds{{{MONITOR}}})"),
                unit="s",
                empty="unknown",
                decimals=1,
            ),
        ),
    ]


def _polls() -> list[tuple[int, Json]]:
    seconds = f"sum by (le) (rate(ultravox_monitor_poll_duration_seconds_bucket{{{HERE}}}{RATE}))"
    failures = f"60 * sum by (reason) (rate(ultravox_monitor_poll_failures_total{{{HERE}}}{RATE}))"
    reasons = _or_none(failures, f"sum({failures}) == 0")
    return [
        (
            8,
            curves(
                "Polls",
                "Looks at batches in a minute, by account, failed ones included.",
                Query(_rate("polls", "account"), "{{account}}"),
                unit=PER_MINUTE,
                empty="Nothing is polled.",
                stacked=True,
            ),
        ),
        (
            8,
            curves(
                "Poll latency",
                "From the start of a poll until its result was judged and stored: half of all polls are quicker than p50, ninety-nine of a hundred quicker than p99.",
                *(
                    Query(f"histogram_quantile({quantile}, {seconds})", name)
                    for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
                ),
                unit="s",
                empty="Nothing is polled.",
                overrides=colors({"p50": GREEN, "p95": AMBER, "p99": RED}),
            ),
        ),
        (
            8,
            curves(
                "Failed polls by reason",
                "In a minute. A failed poll is no news about its batch: nothing is decided by it. Without a reason: none fail.",
                Query(reasons, "{{reason}}"),
                unit=PER_MINUTE,
                empty="Nothing is polled.",
                stacked=True,
                bars=True,
            ),
        ),
    ]


def _api() -> list[tuple[int, Json]]:
    held = f"sum by (account) (rate(ultravox_monitor_api_throttled_seconds_total{{{HERE}}}{RATE}))"
    return [
        (
            8,
            curves(
                "Requests by endpoint",
                "Requests to Ultravox in a minute. The API allows 200 a second for a key; the monitor keeps to max_requests_per_second.",
                Query(f"{_rate('api_requests', 'endpoint')} > 0", "{{endpoint}}"),
                unit=PER_MINUTE,
                empty="Ultravox is not asked.",
                stacked=True,
            ),
        ),
        (
            8,
            curves(
                "Requests by answer",
                "By HTTP status; none: there was no answer.",
                Query(f"{_rate('api_requests', 'code')} > 0", "{{code}}"),
                unit=PER_MINUTE,
                empty="Ultravox is not asked.",
                stacked=True,
                overrides=colors(
                    {
                        "200": GREEN,
                        "401": "dark-red",
                        "403": "dark-red",
                        "404": GREY,
                        "429": "purple",
                        "4xx": AMBER,
                        "5xx": RED,
                        "none": "dark-orange",
                    }
                ),
            ),
        ),
        (
            8,
            curves(
                "Held back",
                "Share of the time in which requests waited because the API answered 429; and polls in a minute that were skipped because the one before was still running.",
                Query(held, "429: {{account}}"),
                Query(_rate("polls_skipped", "account"), "skipped: {{account}}"),
                unit="percentunit",
                empty="Ultravox is not asked.",
                overrides=[
                    override(
                        "/^skipped/", {"unit": PER_MINUTE, "custom.axisPlacement": "right"}, by="byRegexp"
                    )
                ],
                custom={"axisSoftMax": 0.1},
            ),
        ),
    ]


def _accounts() -> list[tuple[int, Json]]:
    return [
        (
            8,
            timeline(
                "Accounts answer",
                "The latest probe of each account, once a minute.",
                Query(f"max by (account) (ultravox_account_up{{{HERE}}})", "{{account}}"),
                texts=YES_NO,
                empty="No account has been probed yet.",
            ),
        ),
        (
            8,
            curves(
                "Batches by state",
                "All that are watched.",
                Query(f"sum by (state) (ultravox_monitor_batches{{{MONITOR}}}) > 0", "{{state}}"),
                unit="none",
                empty="No batch is watched.",
                stacked=True,
                overrides=colors({name: color for name, (_, color) in STATES.items()}),
                decimals=0,
            ),
        ),
        (
            8,
            curves(
                "Discovery and clocks",
                "Time since all batches of an account were last listed (it should stay below a few minutes); the API's clock minus ours.",
                Query(_age("discovery_last_success", "account", HERE), "listed: {{account}}"),
                Query(
                    f"max by (account) (ultravox_account_clock_skew_seconds{{{HERE}}}) / 60",
                    "clock: {{account}}",
                ),
                unit="m",
                empty="No account has answered yet.",
                fill=0,
                custom={"lineWidth": 1},
                min=None,
            ),
        ),
    ]


def _messages() -> list[tuple[int, Json]]:
    # Each shard has a queue of its own to a receiver: the oldest of all counts.
    since = (
        f"min by (receiver) (ultravox_monitor_notifications_oldest_pending_timestamp_seconds{{{MONITOR}}})"
    )
    oldest = f"(time() - {since}) / 60 or 0 * max by (receiver) (ultravox_monitor_notifications_pending{{{MONITOR}}})"
    failed = f"sum by (receiver, reason) (increase(ultravox_monitor_notification_failures_total{{{MONITOR}}}{RATE}))"
    return [
        (
            6,
            curves(
                "Messages accepted",
                "By receiver, as they were taken. Of Alertmanager, which is told again and again, what it was first told.",
                Query(
                    f"sum by (receiver) (increase(ultravox_monitor_notifications_total{{{MONITOR}}}{RATE}))",
                    "{{receiver}}",
                ),
                unit="none",
                empty=NO_RECEIVERS,
                bars=True,
                stacked=True,
                decimals=0,
            ),
        ),
        (
            6,
            curves(
                "Tries that failed",
                "By receiver and reason. They are tried again; nothing is lost for 24 h.",
                Query(_or_none(failed, f"sum by (receiver) ({failed}) == 0"), "{{receiver}}: {{reason}}"),
                unit="none",
                empty=NO_RECEIVERS,
                bars=True,
                stacked=True,
                decimals=0,
            ),
        ),
        (
            6,
            curves(
                "Oldest waiting message",
                "How long the oldest message has waited for its receiver. After 24 h it is dropped, loudly.",
                Query(oldest, "{{receiver}}"),
                unit="m",
                empty=NO_RECEIVERS,
            ),
        ),
        (
            6,
            curves(
                "Waiting and dropped",
                "Messages that wait, and (red) those that were given up.",
                Query(
                    f"sum by (receiver) (ultravox_monitor_notifications_pending{{{MONITOR}}})",
                    "{{receiver}} waiting",
                ),
                Query(
                    f"sum by (receiver) (increase(ultravox_monitor_notifications_dropped_total{{{MONITOR}}}{RATE}))",
                    "{{receiver}} dropped",
                ),
                unit="none",
                empty=NO_RECEIVERS,
                overrides=[override("/dropped$/", {"color": fixed(RED)}, by="byRegexp")],
                decimals=0,
            ),
        ),
    ]


def _process() -> list[tuple[int, Json]]:
    return [
        (
            6,
            curves(
                "Heartbeat",
                "Time since a ping of the heartbeat was last accepted. Outside, somebody is told when it grows.",
                Query(_age("heartbeat_last_success", "instance", MONITOR), "{{instance}}"),
                unit="m",
                empty=NO_HEARTBEAT,
            ),
        ),
        (
            6,
            curves(
                "Memory",
                "Resident memory of the process: about 60 MB, and 9 kB for each batch.",
                Query(f"max by (instance) (process_resident_memory_bytes{{{MONITOR}}})", "{{instance}}"),
                unit="bytes",
                empty=NOT_SCRAPED,
            ),
        ),
        (
            6,
            curves(
                "CPU",
                "Of one core.",
                Query(
                    f"sum by (instance) (rate(process_cpu_seconds_total{{{MONITOR}}}{RATE}))", "{{instance}}"
                ),
                unit="percentunit",
                empty=NOT_SCRAPED,
            ),
        ),
        (
            6,
            curves(
                "Open files",
                "Sockets and files that the process holds: about 20, and one for each request under way. It should not grow.",
                Query(f"max by (instance) (process_open_fds{{{MONITOR}}})", "{{instance}}"),
                unit="none",
                empty=NOT_SCRAPED,
                decimals=0,
            ),
        ),
    ]


def dashboard() -> Json:
    """The page."""
    return page(
        "ultravox-monitor",
        "Ultravox batch monitor",
        "The monitor itself: does it see every batch, and would people hear of trouble?",
        variables=[
            variable(
                "instance",
                "Instance",
                "label_values(ultravox_monitor_build_info, instance)",
                "Processes of the monitor, as Prometheus knows them.",
                whole="",  # other programs have process_* and up, too
            ),
            variable(
                "account",
                "Account",
                "label_values(ultravox_monitor_polls_total, account)",
                "Accounts of the monitor's configuration.",
            ),
        ],
        annotations=[
            annotation(
                "Restarts", f"changes(process_start_time_seconds{{{MONITOR}}}[2m]) > 0", BLUE, "restarted"
            ),
            annotation(
                "Alerts about the monitor",
                'max by (alertname) (ALERTS{alertname=~"UltravoxMonitor.+",alertstate="firing"})',
                RED,
                "{{alertname}}",
            ),
        ],
        rows=[
            (4, _tiles()),
            section("Polls: does it see everything?"),
            (8, _polls()),
            section("Requests to Ultravox"),
            (8, _api()),
            section("Accounts and batches"),
            (8, _accounts()),
            section("Messages: would people hear of it?"),
            (8, _messages()),
            section("The process"),
            (7, _process()),
        ],
    )

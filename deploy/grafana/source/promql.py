"""What several pages ask Prometheus for, and which colour means what.

Series of one batch are told apart by batch_id alone, a UUID. `max by` and `topk by` stand before every join: while
one daemon takes over from another, both are scraped, and two series of one batch could not be joined.
"""

from __future__ import annotations

from deploy.grafana.source.panels import Json, mapping

PER_HOUR = "suffix:/h"
"""The unit of paces: calls in an hour."""

RED, AMBER, GREEN, BLUE, GREY = "red", "orange", "green", "blue", "#7b8087"

STATES: dict[str, tuple[int, str]] = {
    "overdue": (9, "purple"),
    "stalled": (8, "red"),
    "incomplete": (7, "dark-red"),
    "gone": (6, "dark-orange"),
    "paused": (5, "yellow"),
    "unknown": (4, "light-blue"),
    "running": (3, "green"),
    "waiting": (2, "#6d8db5"),
    "ended": (1, GREY),
}
"""A number for each state, the worst the highest, and its colour on every page."""

STATE_TEXTS: list[Json] = mapping({number: (state, color) for state, (number, color) in STATES.items()})

SEVERITIES = {"critical": (13, "dark-red"), "warning": (12, "orange"), "info": (11, "blue")}
"""The same for alerts; the numbers share timelines with those of the states."""

STATUSES = {"success": GREEN, "error": RED, "expired": "dark-orange", "pending": BLUE, "future": GREY}
"""What has become of calls, in the order in which they are stacked."""


def or_zero(count: str, where: str = "") -> str:
    """0 where there is nothing to count. Nothing at all without a monitor: a dead one must not look like a quiet day."""
    return f"{count}\nor 0 * max(ultravox_monitor_build_info{{{where}}})"


NOT_SCRAPED = "Prometheus does not reach the monitor."


def of(metric: str, where: str) -> str:
    """A metric of batches, one series a batch."""
    return f"max by (batch_id) ({metric}{{{where}}})"


def state(where: str) -> str:
    """The number of each batch's state."""
    terms = (
        f'{number} * ultravox_batch_state{{state="{name}",{where}}}' for name, (number, _) in STATES.items()
    )
    return "max by (batch_id) (\n    " + "\n  or ".join(terms) + "\n)"


def named(where: str) -> str:
    """1 for each batch, with the labels batch, agent and account; what it is called now, if it had two names."""
    return f"topk by (batch_id) (1, ultravox_batch_info{{{where}}})"


def with_names(values: str, names: str, labels: str = "batch") -> str:
    """Values of batches, with labels of theirs. Only batches that `names` has."""
    return f"{values}\n* on (batch_id) group_left ({labels}) {names}"


def needed_pace(where: str) -> str:
    """Calls in a second that would just do, from now or the opening of the window to its end."""
    start = f"({of('ultravox_batch_window_start_timestamp_seconds', where)} or {of('ultravox_batch_created_timestamp_seconds', where)})"
    end = of("ultravox_batch_window_end_timestamp_seconds", where)
    left = f"({of('ultravox_batch_calls', where)} - {of('ultravox_batch_completed_calls', where)})"
    return (
        f"{left}\n/ ({end} - clamp_min({start}, time()) > 0)\n"
        f"unless on (batch_id) {of('ultravox_batch_ended_timestamp_seconds', where)}"
    )

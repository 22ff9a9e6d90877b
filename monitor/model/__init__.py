"""The nouns. Everything the other modules hand to each other is a frozen value defined here.

Nothing in this package reads a clock, a file or a socket, and nothing here decides anything.
All instants are aware UTC datetimes; all durations that are stored are seconds.
"""

from __future__ import annotations

from monitor.model.alert import Alert, AlertName, AlertState, Labels, MessageKind, Phase, Resolution, Severity
from monitor.model.batch import (
    AccountStatus,
    Assessment,
    BatchKey,
    CallError,
    CallStatus,
    Circumstances,
    FailedCalls,
    Failing,
    FailureReason,
    Mark,
    Observation,
    Outcomes,
    Progress,
    Status,
    Target,
    Throttle,
    ThrottleRule,
    Urgency,
)
from monitor.model.curve import Curve, Point
from monitor.model.message import Entry, Message, Mute, Notification, QueueStatus
from monitor.model.state import NO_CHANGES, Changes, State, StateChange
from monitor.model.views import DiscoveryStatus, HandoverView, Record, Snapshot, Tested

__all__ = [
    "NO_CHANGES",
    "AccountStatus",
    "Alert",
    "AlertName",
    "AlertState",
    "Assessment",
    "BatchKey",
    "CallError",
    "CallStatus",
    "Changes",
    "Circumstances",
    "Curve",
    "DiscoveryStatus",
    "Entry",
    "FailedCalls",
    "Failing",
    "FailureReason",
    "HandoverView",
    "Labels",
    "Mark",
    "Message",
    "MessageKind",
    "Mute",
    "Notification",
    "Observation",
    "Outcomes",
    "Phase",
    "Point",
    "Progress",
    "QueueStatus",
    "Record",
    "Resolution",
    "Severity",
    "Snapshot",
    "State",
    "StateChange",
    "Status",
    "Target",
    "Tested",
    "Throttle",
    "ThrottleRule",
    "Urgency",
]

"""What a scenario can say: accounts, agents, campaigns, what happens to them, and faults.

The nouns and the bounds of each value only. How a file becomes these is in scenario.py, what follows from
them in campaign.py and faults.py. Instants and durations are seconds of scenario time, counted from the
simulator's start; paces are calls per second.
"""

from __future__ import annotations

import re
import uuid
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_DURATION = re.compile(r"(-?)((?:\d+(?:\.\d+)?(?:ms|[smhdw]))+)")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PACE = re.compile(r"(\d+(?:\.\d+)?)/(s|m|h)")
_DAY = 86400.0
DEFAULT_ERROR = "SIP 486 Busy Here"


def _seconds(value: object) -> float:
    """`1h30m`, `-2h`: seconds, negative for before the start."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a duration: write it like 30s, 5m, 1h30m or -2h")
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(match[2]))
    return -total if match[1] else total


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _throttle_window(value: float) -> float:
    if not 1 <= value <= _DAY:
        raise ValueError("must be between 1s and 1d, as the API's")
    return value


def _pace(value: object) -> float:
    """`120/h`: calls per second."""
    match = _PACE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a pace: write it like 120/h, 2/m or 5/s")
    return float(match[1]) / _UNITS[match[2]]


def _retry_after(value: object) -> object:
    """What the header Retry-After may say (RFC 9110, 10.2.3)."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    try:
        parsedate_to_datetime(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(
            "neither whole seconds nor an HTTP date like Mon, 23 Nov 2026 12:00:00 GMT"
        ) from None
    return value


_Instant = Annotated[float, BeforeValidator(_seconds)]
_Length = Annotated[float, BeforeValidator(_seconds), AfterValidator(_not_negative)]
_ThrottleWindow = Annotated[float, BeforeValidator(_seconds), AfterValidator(_throttle_window)]
_Pace = Annotated[float, BeforeValidator(_pace)]
_Share = Annotated[float, Field(ge=0, le=1, strict=True)]
_Name = Annotated[str, Field(min_length=1, max_length=64)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Window(_Part):
    """Bounds in seconds from the start; None: none."""

    start: _Instant | None = None
    end: _Instant | None = None


class Failing(_Part):
    """Which share of the calls fails, and with which text."""

    share: _Share
    error: str = DEFAULT_ERROR


class Action(_Part):
    """One thing that happens to a campaign."""

    at: _Instant
    do: Literal[
        "pause",
        "resume",
        "stall",
        "recover",
        "add_calls",
        "set_pace",
        "fail",
        "move_window",
        "cancel",
        "delete",
    ]
    calls: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    pace: _Pace | None = None
    share: _Share | None = None
    error: str = DEFAULT_ERROR
    start: _Instant | None = None
    end: _Instant | None = None

    def model_post_init(self, _: Any) -> None:
        needed = {"add_calls": "calls", "set_pace": "pace", "fail": "share"}.get(self.do)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{self.do} needs `{needed}`")
        taken = {"fail": {"share", "error"}, "move_window": {"start", "end"}}.get(self.do, {needed})
        for name in sorted(self.model_fields_set - {"at", "do"} - taken):
            raise ValueError(f"{self.do} takes no `{name}`")
        if self.do == "move_window" and not self.model_fields_set & taken:
            raise ValueError("move_window needs `start` or `end`")


class Batch(_Part):
    """One campaign."""

    name: _Name
    batch_id: uuid.UUID | None = None
    created: _Instant = 0.0
    calls: Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
    window: Window = Window()
    pace: _Pace = 120 / 3600
    jitter: _Share = 0.2
    paused: bool = False
    omit_paused: bool = False
    throttle: str | None = None
    failing: Failing | None = None
    ends_late: _Length = 0.0
    webhook: bool = True
    medium: Literal["sip", "twilio"] = "sip"
    script: tuple[Action, ...] = ()


class Agent(_Part):
    """One agent and its campaigns."""

    name: _Name
    agent_id: uuid.UUID | None = None
    batches: tuple[Batch, ...] = ()


class ThrottleRule(_Part):
    """At most so many calls in any window of this length. Bounds: `CallThrottleRule` of the API's document."""

    max_calls: Annotated[int, Field(ge=1, le=100, strict=True)]
    window: _ThrottleWindow


class Throttle(_Part):
    """A limit that batches share by naming it."""

    name: _Name
    rules: tuple[ThrottleRule, ...]


class Account(_Part):
    """One account with its key."""

    name: _Name
    api_key: Annotated[str, Field(pattern=r"^[^\s.]{8}\.[^\s.]{32}$")] | None = None
    allowed_concurrent_calls: Annotated[int, Field(ge=0, strict=True)] | None = None
    call_duration: _Length = 120.0
    throttles: tuple[Throttle, ...] = ()
    agents: tuple[Agent, ...] = ()


class FaultKind(StrEnum):
    """What can go wrong on the way."""

    LATENCY = "latency"
    HANG = "hang"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    RESET = "reset"
    TRUNCATED = "truncated"
    HTML = "html"
    WRONG_TYPES = "wrong_types"
    SHRINK = "shrink"
    SKEW = "skew"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"


_Endpoint = Literal[
    "get_batch",
    "list_batches",
    "scheduled_calls",
    "created_calls",
    "list_agents",
    "get_agent",
    "accounts_me",
    "list_throttles",
    "get_throttle",
]
ENDPOINTS: tuple[str, ...] = get_args(_Endpoint)


class Fault(_Part):
    """A fault of an endpoint, for a while. `seconds` and `retry_after` are real seconds at any speed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    kind: FaultKind
    endpoint: Literal[_Endpoint, "any"] = "any"
    account: str | None = None
    batch: str | None = None
    from_: Annotated[_Instant, Field(alias="from")] = 0.0
    to: _Instant | None = None
    share: _Share = 1.0
    status: Annotated[int, Field(ge=400, le=599, strict=True)] = 503
    seconds: float = 1.0
    retry_after: Annotated[str | int | None, BeforeValidator(_retry_after)] = None
    midway: bool = False
    fields: dict[str, Any] | None = None
    without: tuple[str, ...] = ()

    @property
    def options(self) -> set[str]:
        """The options given that only some kinds have."""
        return self.model_fields_set & {option for taken in OPTIONS.values() for option in taken}


OPTIONS: dict[FaultKind, tuple[str, ...]] = {
    FaultKind.LATENCY: ("seconds",),
    FaultKind.THROTTLED: ("retry_after",),
    FaultKind.SERVER_ERROR: ("status",),
    FaultKind.RESET: ("midway",),
    FaultKind.WRONG_TYPES: ("fields", "without"),
    FaultKind.SKEW: ("seconds",),
}
"""What only faults of a kind take."""

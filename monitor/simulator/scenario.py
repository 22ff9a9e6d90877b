"""What the pretend Ultravox plays: campaigns and faults, read from YAML into frozen values.

Reading and checking only; what happens is in campaign.py. All instants and durations are seconds of
scenario time, counted from the simulator's start.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

_NAMESPACE = uuid.UUID("6f1c0f5e-0d0e-4f3a-9a53-0c9d3b0b7a11")
_DURATION = re.compile(r"(-?)((?:\d+(?:\.\d+)?(?:ms|[smhdw]))+)")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PACE = re.compile(r"(\d+(?:\.\d+)?)/(s|m|h)")
DEFAULT_ERROR = "SIP 486 Busy Here"


class ScenarioError(Exception):
    """The scenario cannot be played. The text has a line for every mistake, with its path in the file."""


def _seconds(value: object) -> float:
    """`1h30m`, `-2h`: seconds, negative for before the start."""
    if value == 0:
        return 0.0
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a duration: write it like 30s, 5m, 1h30m or -2h")
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(match[2]))
    return -total if match[1] else total


def _positive(value: float) -> float:
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _pace(value: object) -> float:
    """`120/h`: calls per second."""
    match = _PACE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a pace: write it like 120/h, 2/m or 5/s")
    return float(match[1]) / _UNITS[match[2]]


_Instant = Annotated[float, BeforeValidator(_seconds)]
_Length = Annotated[float, BeforeValidator(_seconds), AfterValidator(_positive)]
_Pace = Annotated[float, BeforeValidator(_pace)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Name = Annotated[str, Field(min_length=1, max_length=64)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
    calls: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    pace: _Pace | None = None
    share: _Share | None = None
    error: str = DEFAULT_ERROR
    start: _Instant | None = None
    end: _Instant | None = None

    def model_post_init(self, _: Any) -> None:
        needed = {"add_calls": "calls", "set_pace": "pace", "fail": "share"}.get(self.do)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{self.do} needs `{needed}`")


class Batch(_Part):
    """One campaign."""

    name: _Name
    batch_id: uuid.UUID | None = None
    created: _Instant = 0.0
    calls: Annotated[int, Field(ge=0, le=1_000_000)]
    window: Window = Window()
    pace: _Pace = 120 / 3600
    jitter: _Share = 0.2
    paused: bool = False
    omit_paused: bool = False
    throttle: str | None = None
    failing: Failing | None = None
    ends_late: _Length = 0.0
    script: tuple[Action, ...] = ()


class Agent(_Part):
    """One agent and its campaigns."""

    name: _Name
    agent_id: uuid.UUID | None = None
    batches: tuple[Batch, ...] = ()


class ThrottleRule(_Part):
    """At most so many calls in any window of this length."""

    max_calls: Annotated[int, Field(ge=1)]
    window: _Length


class Throttle(_Part):
    """A limit that batches share by naming it."""

    name: _Name
    rules: tuple[ThrottleRule, ...]


class Account(_Part):
    """One account with its key."""

    name: _Name
    api_key: Annotated[str, Field(pattern=r"^[^\s.]{8}\.[^\s.]{32}$")] | None = None
    allowed_concurrent_calls: Annotated[int, Field(ge=0)] | None = None
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

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: FaultKind
    endpoint: _Endpoint | Literal["any"] = "any"
    account: str | None = None
    batch: str | None = None
    from_: Annotated[_Instant, Field(alias="from")] = 0.0
    to: _Instant | None = None
    share: _Share = 1.0
    status: Annotated[int, Field(ge=400, le=599)] = 503
    seconds: float = 1.0
    retry_after: str | int | None = None


class _Document(_Part):
    seed: int = 0
    speed: Annotated[float, Field(gt=0)] = 1.0
    accounts: tuple[Account, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is played. Keys and ids are filled in. `speed`: scenario seconds in a real second."""

    seed: int
    speed: float
    accounts: tuple[Account, ...]
    faults: tuple[Fault, ...]


def default_api_key(account: str) -> str:
    """The key of an account that the scenario gives none: eight characters, a dot, thirty-two."""
    return f"SIMULATE.{uuid.uuid5(_NAMESPACE, account).hex}"


def load(source: Path | str) -> Scenario:
    """Read a scenario from a file, or from text. ScenarioError with every mistake in it."""
    name, text = (
        (str(source), source.read_text(encoding="utf-8"))
        if isinstance(source, Path)
        else ("scenario", source)
    )
    try:
        document = _Document.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ScenarioError(f"{name}: {error}") from None
    except ValidationError as error:
        raise ScenarioError(
            "\n".join(
                f"{name}: {_path(found)}: {found['msg'].removeprefix('Value error, ')}"
                for found in error.errors()
            )
        ) from None
    accounts = tuple(_identified(account) for account in document.accounts)
    mistakes = _mistakes(accounts, document.faults)
    if mistakes:
        raise ScenarioError("\n".join(f"{name}: {mistake}" for mistake in mistakes))
    return Scenario(document.seed, document.speed, accounts, document.faults)


def shipped() -> Scenario:
    """The afternoon that ships with the monitor: every state and every alert."""
    return load(resources.files("monitor.simulator").joinpath("scenario.yaml").read_text(encoding="utf-8"))


def _path(found: Any) -> str:
    path = ""
    for step in found["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    return path or "the document"


def _identified(account: Account) -> Account:
    agents = []
    for agent in account.agents:
        agent_id = agent.agent_id or uuid.uuid5(_NAMESPACE, f"{account.name}/{agent.name}")
        batches = tuple(
            batch.model_copy(update={"batch_id": batch.batch_id or uuid.uuid5(agent_id, batch.name)})
            for batch in agent.batches
        )
        agents.append(agent.model_copy(update={"agent_id": agent_id, "batches": batches}))
    key = account.api_key or default_api_key(account.name)
    return account.model_copy(update={"api_key": key, "agents": tuple(agents)})


def _mistakes(accounts: tuple[Account, ...], faults: tuple[Fault, ...]) -> list[str]:
    found = [] if accounts else ["accounts: at least one is needed"]
    names = [account.name for account in accounts]
    found += [
        f"accounts: `{name}` is there twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    ids: list[uuid.UUID | None] = []
    known = set[str]()
    for number, account in enumerate(accounts):
        throttles = {throttle.name for throttle in account.throttles}
        for agent in account.agents:
            for batch in agent.batches:
                ids.append(batch.batch_id)
                known.add(batch.name)
                if batch.throttle is not None and batch.throttle not in throttles:
                    found.append(
                        f"accounts[{number}]: batch `{batch.name}`: no throttle is named `{batch.throttle}`"
                    )
                end = batch.window.end
                if end is not None and batch.window.start is not None and end <= batch.window.start:
                    found.append(
                        f"accounts[{number}]: batch `{batch.name}`: its window ends before it starts"
                    )
    if len(set(ids)) < len(ids):
        found.append("accounts: two batches have the same name under the same agent, or the same batch_id")
    for number, fault in enumerate(faults):
        if fault.account is not None and fault.account not in names:
            found.append(f"faults[{number}].account: no account is named `{fault.account}`")
        if fault.batch is not None and fault.batch not in known:
            found.append(f"faults[{number}].batch: no batch is named `{fault.batch}`")
    return found

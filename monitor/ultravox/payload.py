"""What the API says, read strictly: a number is a number, a date is a date, and what we do not need is dropped.

There is no field for `webhookSecret` or `webhookUrl`, so that nothing behind this file can hold one.
Unknown fields may appear at any time and change nothing.
"""

from __future__ import annotations

import re
from collections import deque
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from monitor.model import CallStatus

COUNT_LIMIT = 10_000_000
"""Calls beyond which a count is taken for nonsense."""

TEXT_LIMIT = 200
"""Characters of an id or a name."""


class MalformedError(Exception):
    """The answer is not what it should be. The text names the field, never its value."""


_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")

_READ: dict[str, datetime] = {}
_MOST_READ = 4096
"""Dates that were read before, and are the same at each look: batches have four, and most share their windows."""


def _instant(value: object, read_by_pydantic: ValidatorFunctionWrapHandler) -> datetime:
    """An RFC 3339 date-time, in UTC. Pydantic also reads "1763900000" as one, even when strict; we do not."""
    if not isinstance(value, str) or not _RFC3339.match(value):
        raise ValueError("not an RFC 3339 date-time")
    if (known := _READ.get(value)) is not None:
        return known
    at: datetime = read_by_pydantic(value)
    try:
        at = at.astimezone(UTC)
    except OverflowError:  # year 1 or 9999, with an offset that leads out of the calendar
        raise ValueError("a date outside the calendar") from None
    if len(_READ) >= _MOST_READ:
        _READ.clear()
    _READ[value] = at
    return at


# Not strict inside: strict pydantic takes only datetime objects from a validator around it.
_Instant = Annotated[AwareDatetime, Strict(strict=False), WrapValidator(_instant)]
_Count = Annotated[int, Field(ge=0, le=COUNT_LIMIT)]
_Text = Annotated[str, StringConstraints(max_length=TEXT_LIMIT)]
_Id = Annotated[str, StringConstraints(min_length=1, max_length=TEXT_LIMIT)]


class Payload(BaseModel):
    """How every answer is read."""

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )


class Batch(Payload):
    """A scheduled call batch."""

    batch_id: _Id
    created: _Instant
    total_count: _Count
    completed_count: _Count
    ended_at: _Instant | None
    window_start: _Instant | None = None
    window_end: _Instant | None = None
    paused: bool | None = None
    throttle: _Text | None = None


class Account(Payload):
    """The account of a key."""

    name: str  # the document sets no limit, and a long name must not look like an account that is down
    active_calls: _Count
    allowed_concurrent_calls: _Count | None


class Agent(Payload):
    """An agent."""

    agent_id: _Id
    name: _Text = ""  # the document does not require it


class Page(Payload):
    """The envelope of every list. What is in it is read entry by entry."""

    results: list[Any]
    next: Annotated[str, StringConstraints(max_length=8192)] | None = None
    total: _Count | None = None


class BatchPage(Page):
    """A page of batches. What is no batch is left as it came: it spoils no other."""

    results: list[Annotated[Batch | Any, Field(union_mode="left_to_right")]]


class Rule(Payload):
    """At most `max_calls` in any `window_seconds`."""

    max_calls: _Count
    window_seconds: Annotated[int, Field(ge=1, le=366 * 86400)]


class Throttle(Payload):
    """A call throttle."""

    throttle_id: _Id
    name: _Text
    rules: list[Rule]


class ScheduledCall(Payload):
    """One call of a batch. Its error, medium and metadata are for the one who asked: they are never kept.

    The document says little of the last two, and whoever asks why calls failed needs neither.
    """

    status: Annotated[CallStatus, Strict(strict=False)]
    error: str | None = None
    medium: Any = None
    metadata: Any = None


def destination(medium: object) -> str | None:
    """Whom a call was for: the outermost `to` of the medium, wherever the kind of medium keeps it."""
    parts = deque([medium])
    while parts:
        part = parts.popleft()
        if isinstance(part, dict):
            if isinstance(to := part.get("to"), str):
                return to
            parts.extend(part.values())
    return None


def pairs(metadata: object) -> tuple[tuple[str, str], ...]:
    """Metadata as text, in the order of the names."""
    if not isinstance(metadata, dict):
        return ()
    return tuple((name, str(value)) for name, value in sorted(metadata.items()))


def batch_id(entry: object) -> str | None:
    """The id of an entry that is no batch otherwise; None when it has none that a batch could have."""
    found = entry.get("batchId") if isinstance(entry, dict) else None
    return found if isinstance(found, str) and 1 <= len(found) <= TEXT_LIMIT else None


_Model = TypeVar("_Model", bound=Payload)


def read(model: type[_Model], body: bytes | bytearray) -> _Model:
    """The body as this model; MalformedError when it is none."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        found = _malformed(error)
    raise found


def item(model: type[_Model], data: object) -> _Model:
    """An entry of a list as this model; MalformedError when it is none."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = _malformed(error)
    raise found


def _malformed(error: ValidationError) -> MalformedError:
    found = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = ".".join(str(step) for step in found["loc"])
    what = "not JSON" if found["type"] == "json_invalid" else found["msg"].removeprefix("Value error, ")
    return MalformedError(f"{field}: {what}" if field else what)

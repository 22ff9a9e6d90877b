"""What a value of the configuration may be: durations, times, addresses, names, and what is said of a wrong one.

What is said: what to write instead, never the value itself, which may be a secret.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import uuid
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError

from monitor import words
from monitor.messages import ALERT_LABELS, PLACEHOLDERS, RESERVED_LABELS
from monitor.model import AlertName, Severity

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_DURATION = re.compile(
    r"(?:([0-9]+)y)?(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?(?:([0-9]+)ms)?"
)
_ORDER = ("y", "w", "d", "h", "m", "s", "ms")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TIME_OF_DAY = re.compile(r"(?=[01][0-9]|2[0-3]|24:00)([0-9]{2}):([0-5][0-9])")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LONGEST = timedelta(days=366)


def wrong(text: str) -> PydanticCustomError:
    """What a validator raises; its text is the whole message."""
    return PydanticCustomError("ours", "{text}", {"text": text})


def as_duration(value: object) -> timedelta:
    """Prometheus' durations: `30s`, `5m`, `1h30m`. ValueError, its text says what is wrong."""
    if value == 0 and not isinstance(value, bool):
        return timedelta(0)
    if isinstance(value, str) and value == "0":
        return timedelta(0)
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise wrong("a duration needs a unit: write it like 30s, 5m or 1h30m")
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None or len(value if isinstance(value, str) else "") > 20:
        raise wrong("not a duration: write it like 30s, 5m or 1h30m")
    seconds = sum(
        int(number) * _UNITS[unit] for unit, number in zip(_ORDER, match.groups(), strict=True) if number
    )
    if seconds > LONGEST.total_seconds():
        raise wrong("longer than a year")
    return timedelta(seconds=seconds)


def _between(lowest: timedelta, highest: timedelta, text: str) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if not lowest <= value <= highest:
            raise wrong(text)
        return value

    return AfterValidator(check)


def _uuid(value: object) -> str:
    if not isinstance(value, str):
        raise wrong("not a UUID: put it in quotes, as 8-4-4-4-12 hexadecimal digits")
    try:
        found = str(uuid.UUID(value))
    except ValueError:
        found = ""
    if found != value.lower():
        raise wrong("not a UUID: write it as 8-4-4-4-12 hexadecimal digits")
    return found


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable or not value.isprintable() or " " in value:
        raise wrong("not a URL: write it as http://host:port/path or https://…")
    return value


def _base_url(value: str) -> str:
    parts = urlsplit(_url(value))
    if "?" in value or "#" in value or parts.username is not None:  # an empty query is one, too
        raise wrong("must be a scheme, a host and perhaps a path: no user, no query, no fragment")
    return value.rstrip("/")


def _peer(value: str) -> str:
    """An address of Alertmanager, to which the path of its API is added. It may hold a user and a password."""
    path = urlsplit(_url(value)).path.rstrip("/")
    if "?" in value or "#" in value:
        raise wrong("must be a scheme, a host and perhaps a path: no query, no fragment")
    if path.endswith("/api/v2/alerts"):
        raise wrong("leave out /api/v2/alerts: it is added")
    return value


def _template(value: str) -> str:
    known = ", ".join(f"{{{one}}}" for one in sorted(PLACEHOLDERS))
    for name in re.findall(r"\{([^{}]*)\}", value):
        if name not in PLACEHOLDERS:
            raise wrong(f"a placeholder that is not known: there are {known}")
    if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", value)):
        raise wrong(f"a brace without its other half: the placeholders are {known}")
    return _url(value)


def _printable(value: str) -> str:
    if not value.isprintable():
        raise wrong("must not hold line breaks or control characters")
    return value


def _label_name(name: str) -> str:
    if not _LABEL_NAME.fullmatch(name) or name.startswith("__"):
        raise wrong("not a label name: letters, digits and _, not first a digit, not first __")
    return name


def _own_label(name: str) -> str:
    if _label_name(name) in RESERVED_LABELS:
        raise wrong("is a label of the monitor's own: choose another name")
    return name


def _matched_label(name: str) -> str:
    if _label_name(name) in RESERVED_LABELS - ALERT_LABELS:
        known = ", ".join(sorted(ALERT_LABELS))
        raise wrong(f"no alert has this label: there are {known}, and those of your own")
    return name


def _matched_values(value: object) -> frozenset[str]:
    values: list[object] = value if isinstance(value, list) else [value]
    texts = [one for one in values if isinstance(one, str)]
    if not values:
        raise wrong("must not be empty")
    if len(texts) < len(values):
        raise wrong("must be text, or a list of texts: put each in quotes")
    return frozenset(_printable(one) for one in texts)


def _listen_address(value: object) -> tuple[str, int]:
    match = (
        re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]*):([0-9]{1,5})", value)
        if isinstance(value, str)
        else None
    )
    host = match[1].strip("[]") if match else ""
    if match is None or int(match[2]) > 65535 or (match[1].startswith("[") and not _is_ipv6(host)):
        raise wrong("not an address: write it as :10042, 127.0.0.1:10042 or [::1]:10042")
    return host, int(match[2])


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _agents(value: object) -> tuple[str, ...] | None:
    """`all`, or agents by id or by a pattern of their names."""
    if value == "all":
        return None
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise wrong("must be `all`, or a list of agents' ids and patterns of their names, like `renewals*`")
    if not all(one.isprintable() and len(one) <= 200 for one in value):
        raise wrong("holds a pattern with control characters, or one longer than 200 characters")
    return tuple(value)


def _severity(value: object) -> Severity:
    for severity in Severity:
        if severity == value:
            return severity
    raise wrong("must be info, warning or critical")


def _alert_name(value: object) -> AlertName:
    names = {name.casefold(): name for name in AlertName}
    if isinstance(value, str):
        for name in AlertName:
            if name == value:
                return name
        near = words.nearest(value.casefold(), names)
        if near:
            raise wrong(f"unknown alert; did you mean `{names[near]}`?")
    raise wrong(f"unknown alert; there are {', '.join(sorted(AlertName))}")


def _time_of_day(value: object) -> int:
    """Alertmanager's `18:00`, as minutes after midnight. Without quotes, YAML makes another number of it."""
    match = _TIME_OF_DAY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong('not a time of day: write it in quotes, from "00:00" to "24:00"')
    return int(match[1]) * 60 + int(match[2])


def _start_time(value: int) -> int:
    if value == _time_of_day("24:00"):
        raise wrong('"24:00" is the end of a day: it starts at "00:00"')
    return value


def _weekdays(value: object) -> frozenset[int]:
    """Alertmanager's `monday` or `monday:friday`, both included; `saturday:monday` runs over the week's end."""
    names = value.lower().split(":") if isinstance(value, str) else []
    if not 1 <= len(names) <= 2 or not set(names) <= set(_WEEKDAYS):
        raise wrong("not a weekday: write it like monday, or monday:friday for a range")
    first, last = _WEEKDAYS.index(names[0]), _WEEKDAYS.index(names[-1])
    return frozenset((first + after) % 7 for after in range((last - first) % 7 + 1))


def _location(value: object) -> ZoneInfo:
    # ZoneInfo's errors: no such zone; a folder of zones, by some versions; what cannot be a zone's name or file.
    with contextlib.suppress(LookupError, OSError, ValueError):
        if isinstance(value, str) and value.isprintable():
            return ZoneInfo(value)
    raise wrong("not a time zone: write it like Europe/Berlin, America/New_York or UTC")


Duration = Annotated[timedelta, PlainValidator(as_duration)]
_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
Interval = Annotated[Duration, _between(_SECOND, _HOUR, "must be between 1s and 1h")]
Timeout = Annotated[Duration, _between(_SECOND / 10, 2 * _MINUTE, "must be between 100ms and 2m")]
Patience = Annotated[Duration, _between(_SECOND, LONGEST, "must be at least 1s")]
Uuid = Annotated[str, PlainValidator(_uuid)]
Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
Url = Annotated[str, AfterValidator(_url)]
Labels = dict[Annotated[str, AfterValidator(_own_label)], Text]
Match = dict[
    Annotated[str, AfterValidator(_matched_label)], Annotated[frozenset[str], PlainValidator(_matched_values)]
]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Peer = Annotated[str, AfterValidator(_peer)]
Template = Annotated[str, AfterValidator(_template)]
ListenAddress = Annotated[tuple[str, int], PlainValidator(_listen_address)]
Agents = Annotated[tuple[str, ...] | None, PlainValidator(_agents)]
Ratio = Annotated[float, Field(gt=0, le=1)]
OutcomesInterval = Annotated[Duration, _between(_SECOND, timedelta(days=1), "must be between 1s and 1d")]
HeartbeatInterval = Annotated[
    Duration, _between(10 * _SECOND, timedelta(days=1), "must be between 10s and 1d")
]
AlertSeverity = Annotated[Severity, PlainValidator(_severity)]
KnownAlert = Annotated[AlertName, PlainValidator(_alert_name)]
TimeOfDay = Annotated[int, PlainValidator(_time_of_day)]
StartTime = Annotated[TimeOfDay, AfterValidator(_start_time)]
Weekdays = Annotated[frozenset[int], PlainValidator(_weekdays)]
Location = Annotated[ZoneInfo, PlainValidator(_location)]
GroupWait = Annotated[Duration, _between(timedelta(0), _HOUR, "must be between 0s and 1h")]
GiveUpAfter = Annotated[Duration, _between(_HOUR, timedelta(days=30), "must be between 1h and 30d")]

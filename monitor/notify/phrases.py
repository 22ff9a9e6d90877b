"""What is said of one alert in a message for people, and the words that all sentences are made with.

Pure. What becomes of several alerts, and how long a message may be, is text.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monitor import messages, words
from monitor.model import Alert, Entry, MessageKind, Severity
from monitor.notify.subjects import plain, subject

_SEVERITIES = {severity.value: rank for rank, severity in enumerate(Severity)}
_PREFIXES = ("", "Warning", "Critical")


def said(entry: Entry) -> str:
    """One sentence: how bad, or how it ended, and its summary."""
    summary = plain(annotation(entry, "summary")) or alertname(entry)
    if entry.kind is not MessageKind.RESOLVED:
        return prefixed(rank(entry), summary, still=entry.kind is MessageKind.REMINDER)
    return capital(f"{fate(entry)}: {now_true(entry)}")


def cause(text: str, of: str = "") -> str:
    """`Cause: …`; "" where none is given. `of`: of how many, where not all share it."""
    if not text:
        return ""
    colon = "" if text.startswith("unknown") else ":"  # "Cause unknown: the API does not tell."
    return sentence(f"Cause{of}{colon} {text}")


def times(entries: Sequence[Entry]) -> str:
    """When it began, and when it was over."""
    began = sorted({words.instant(entry.alert.starts_at) for entry in entries})
    since = began[0] if len(began) == 1 else f"{began[0]} to {began[-1]}"
    over = sorted(words.instant(entry.alert.ends_at) for entry in entries if entry.alert.ends_at is not None)
    if over and entries[0].kind is MessageKind.RESOLVED:
        return f"Fired {since}, over {over[-1]}."
    return f"Firing since {since}." if entries[0].kind is MessageKind.REMINDER else f"Fired {since}."


def alerts(entries: Iterable[Entry]) -> list[Alert]:
    """What the entries are about."""
    return [entry.alert for entry in entries]


def firing(entries: Iterable[Entry]) -> list[Entry]:
    """Those that are not over."""
    return [entry for entry in entries if entry.kind is not MessageKind.RESOLVED]


def rank(entry: Entry) -> int:
    """How bad it is, from 0; without a word of it, a warning."""
    return _SEVERITIES.get(dict(entry.alert.labels).get("severity", ""), 1)


def prefixed(rank: int, text: str, *, still: bool = False) -> str:
    """`Critical: …`, `Warning, still: …`; what is for information needs no word in front."""
    prefix = capital(", ".join(word for word in (_PREFIXES[rank], "still" if still else "") if word))
    return f"{prefix}: {text}" if prefix else text


def alertname(entry: Entry) -> str:
    """Its name; never empty."""
    return plain(dict(entry.alert.labels).get("alertname", "")) or "alert"


def annotation(entry: Entry, name: str) -> str:
    """What it says under this name; "" where it says nothing."""
    return dict(entry.alert.annotations).get(name, "")


def resolution(entry: Entry) -> str:
    """Why it is over, in a word or two."""
    return plain(annotation(entry, "resolution")) or "over"


def fate(entry: Entry) -> str:
    """The same, and whether anybody had heard of it before."""
    return resolution(entry) + (" before it was told" if entry.belated else "")


def now_true(entry: Entry) -> str:
    """What is true now, of an alert that is over: its summary without the words that say so."""
    summary = messages.before_belated(entry.alert) if entry.belated else annotation(entry, "summary")
    return plain(summary).removeprefix(f"{resolution(entry)}: ") or subject(entry.alert)


def capital(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """In one line, with an end."""
    text = plain(text)
    return text if not text or text[-1] in ".!?…" else f"{text}."

"""A message in words for people: a title for a lock screen, a body for a chat, and how bad it is.

Pure. Plain text without any markup: what one service renders, the next one prints as garbage. It says what
the labels and annotations of the alerts say, and nothing else: no secret and no phone number is in those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitor import messages, words
from monitor.model import Alert, Entry, Message, MessageKind, Severity
from monitor.notify.subjects import accounts, counted, plain, subject, where

TITLE_LIMIT = 250
"""Characters of a title, at most. One that is longer ends after a clause, and the body begins with all of it."""

BODY_LIMIT = 3500
"""Characters of a body, at most: what most services take in one piece and some people read to the end."""

LINES = 10
"""Alerts of which a message says more than that they are counted."""

_TITLED = 3  # kinds of alerts that a title names
_NOTE = 60  # characters kept for saying how much is left out
_CLAUSES = (": ", ", ", "; ", " (")


class Kind(StrEnum):
    """How bad it is, in the words that Apprise has for it."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Text:
    """A message as people read it."""

    title: str
    body: str
    kind: Kind


_SEVERITIES = {severity.value: rank for rank, severity in enumerate(Severity)}
_KINDS = (Kind.INFO, Kind.WARNING, Kind.FAILURE)  # by rank
_PREFIXES = ("", "Warning", "Critical")

_OWN = frozenset({"alertname", "severity", "account", "agent_id", "batch_id", "batch", "receiver"})


def render(message: Message, *, title_limit: int = TITLE_LIMIT, body_limit: int = BODY_LIMIT) -> Text:
    """The message in words, in up to so many characters. The same message always reads the same.

    The body is empty where there is no room for anything worth saying.
    """
    news = [entry for entry in message.entries if entry.superseded_by is None]
    superseded = [entry for entry in message.entries if entry.superseded_by is not None]
    if not news:
        news, superseded = superseded, []
    page = f"Monitor: {plain(message.external_url)}" if message.external_url else ""
    closing = [_sentence(section.head()) for section in _sections(superseded)]
    closing.append(_still(message.still, message.left_out))
    sections = _sections(news)
    headline = _headline(sections)
    title = _title(headline, title_limit)
    whole = [headline] if title != headline else []

    def parts(most: int) -> list[list[str]]:
        if len(news) == 1:
            return [whole, *_alone(news[0], page), closing]
        each = -(-most // len(sections))  # a message of many kinds shows one of each rather than ten of one
        said = [section.lines(each, _head_place(section, sections)) for section in sections]
        return [whole, *said, [*closing, page]]

    return Text(title, _body(parts, body_limit), _kind(news))


# One alert


def _said(entry: Entry) -> str:
    """One sentence: how bad, or how it ended, and its summary."""
    summary = plain(_annotation(entry, "summary")) or _alertname(entry)
    if entry.kind is not MessageKind.RESOLVED:
        return _prefixed(_rank(entry), summary, still=entry.kind is MessageKind.REMINDER)
    resolution, now_true = _resolution(entry), _now_true(entry)
    how = f"{resolution} before it was told" if entry.belated else resolution
    return _capital(f"{how}: {now_true}")


def _alone(entry: Entry, page: str) -> list[list[str]]:
    """All there is to say of it, below its sentence."""
    fires = entry.kind is not MessageKind.RESOLVED
    why = [
        _cause(_annotation(entry, "cause")),
        _sentence(_annotation(entry, "report")),
        _sentence(_annotation(entry, "description")),
    ]
    labels = dict(entry.alert.labels)
    named = [f"Alert {_alertname(entry)}"]
    named += [f"account {labels['account']}"] if labels.get("account") else []
    named += [f"batch {labels['batch_id']}"] if labels.get("batch_id") else []
    named += [f"{name}={value}" for name, value in entry.alert.labels if name not in _OWN and value]
    return [
        why if fires else [],  # both were true of what is over
        [_times([entry]), _sentence(", ".join(named)), *_links(entry), page],
    ]


def _links(entry: Entry) -> list[str]:
    links = (("Dashboard", "dashboard_url"), ("Runbook", "runbook_url"))
    return [f"{word}: {url}" for word, name in links if (url := plain(_annotation(entry, name)))]


def _cause(cause: str, of: str = "") -> str:
    if not cause:
        return ""
    colon = "" if cause.startswith("unknown") else ":"  # "Cause unknown: the API does not tell."
    return _sentence(f"Cause{of}{colon} {cause}")


def _times(entries: Sequence[Entry]) -> str:
    """When it began, and when it was over."""
    began = sorted({words.instant(entry.alert.starts_at) for entry in entries})
    since = began[0] if len(began) == 1 else f"{began[0]} to {began[-1]}"
    over = sorted(words.instant(entry.alert.ends_at) for entry in entries if entry.alert.ends_at is not None)
    if over and entries[0].kind is MessageKind.RESOLVED:
        return f"Fired {since}, over {over[-1]}."
    return f"Firing since {since}." if entries[0].kind is MessageKind.REMINDER else f"Fired {since}."


# Several


@dataclass(frozen=True, slots=True)
class _Section:
    """The alerts of a message that have their name and their fate in common, the worst first."""

    entries: tuple[Entry, ...]

    @property
    def order(self) -> tuple[bool, int, bool, int]:
        """The worst comes first, and what is over last."""
        first = self.entries[0]
        over, still = first.kind is MessageKind.RESOLVED, first.kind is MessageKind.REMINDER
        return over, -max(map(_rank, self.entries)), still, -len(self.entries)

    @property
    def over(self) -> bool:
        return self.entries[0].kind is MessageKind.RESOLVED

    def short(self) -> str:
        """`3 batches stalled`."""
        still = self.entries[0].kind is MessageKind.REMINDER
        return counted(_alerts(self.entries), over=self.over, still=still)

    def head(self, place: str = "") -> str:
        """`Warning: 3 batches stalled on account main`."""
        first = self.entries[0]
        if not self.over:
            return _prefixed(max(map(_rank, self.entries)), self.short() + place)
        how = _resolution(first) + (" before it was told" if first.belated else "")
        return _capital(f"{how}: {self.short()}{place}")

    def lines(self, most: int, place: str | None) -> list[str]:
        """Up to `most` of its alerts, the common cause said once. `place`: for its head; None: the title was that."""
        if len(self.entries) == 1:
            return [
                _said(self.entries[0]),
                _cause(_annotation(self.entries[0], "cause")) if not self.over else "",
            ]
        cause, count = self._common_cause()
        of = "" if count == len(self.entries) else f" of {count:,} of them"
        single_account = len(accounts(_alerts(self.entries))) < 2
        found = [] if place is None else [f"{self.head(place)}:"]
        found.append(_cause(cause, of))
        for entry in self.entries[:most]:
            line = _now_true(entry) if self.over else plain(_annotation(entry, "summary"))
            line = line or subject(entry.alert)
            account = dict(entry.alert.labels).get("account")
            line += f" (account {plain(account)})" if account and not single_account else ""
            line += f" ({_times([entry])[:-1].lower()})" if entry.belated else ""
            own = _annotation(entry, "cause") if not self.over else ""
            found.append(f"- {line}. {_cause(own)}" if own and own != cause else f"- {line}")
        if (left := len(self.entries) - most) > 0:
            found.append(
                f"and {left:,} more." if most else f"All {left:,} of them are too many to be listed."
            )
        found.append(_times(self.entries))
        runbooks = {_annotation(entry, "runbook_url") for entry in self.entries}
        if not self.over and len(runbooks) == 1 and (runbook := plain(runbooks.pop())):
            found.append(f"Runbook: {runbook}")
        return found

    def _common_cause(self) -> tuple[str, int]:
        """The cause that most of them share, and how many do."""
        causes = Counter(_annotation(entry, "cause") for entry in self.entries if not self.over)
        cause, count = causes.most_common(1)[0] if causes else ("", 0)
        return (cause, count) if 2 * count > len(self.entries) else ("", 0)


def _sections(entries: Iterable[Entry]) -> list[_Section]:
    found: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        resolution = _resolution(entry) if entry.kind is MessageKind.RESOLVED else ""
        found.setdefault((_alertname(entry), entry.kind, entry.belated, resolution), []).append(entry)
    sections = [
        _Section(tuple(sorted(group, key=lambda entry: (-_rank(entry), entry.alert.starts_at))))
        for group in found.values()
    ]
    return sorted(sections, key=lambda section: section.order)


def _head_place(section: _Section, sections: Sequence[_Section]) -> str | None:
    """What the head of a section says of accounts, beyond what the title says. None: it needs no head."""
    if len(sections) == 1:
        return None
    everything = [entry.alert for one in sections for entry in one.entries]
    return where(_alerts(section.entries)) if len(accounts(everything)) > 1 else ""


def _headline(sections: Sequence[_Section]) -> str:
    """One sentence for all of them, the worst first."""
    everything = [entry for section in sections for entry in section.entries]
    if len(everything) == 1:
        return _said(everything[0])
    place = where(_alerts(everything))
    if len(sections) == 1:
        return sections[0].head(place)
    fires, over = ([one for one in sections if one.over is wanted] for wanted in (False, True))
    shown = fires or over
    said = ", ".join(section.short() for section in shown[:_TITLED])
    if left := sum(len(section.entries) for section in shown[_TITLED:]):
        said += f" and {left:,} more"
    resolutions = {_resolution(entry) for section in over for entry in section.entries}
    how = resolutions.pop() if len(resolutions) == 1 else "over"
    if not fires:
        return _capital(f"{how}: {said}{place}")
    ended = sum(len(section.entries) for section in over)
    also = f"; {ended:,} {'recovered' if how == 'recovered' else 'over'}" if ended else ""
    return _prefixed(max(map(_rank, _firing(everything))), said + place + also)


def _still(alerts: Sequence[Alert], left_out: int) -> str:
    """What was told before, in one line."""
    if not alerts and not left_out:
        return ""
    by_name: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_name.setdefault(dict(alert.labels).get("alertname", ""), []).append(alert)
    said = [counted(group) for group in sorted(by_name.values(), key=len, reverse=True)]
    said += [f"{left_out:,} more"] if left_out else []
    return _sentence(f"Told before and still firing: {', '.join(said)}")


# Words


def _kind(news: Sequence[Entry]) -> Kind:
    """The worst of what fires. An end is good news, unless something worse took its place."""
    if fires := _firing(news):
        return _KINDS[max(map(_rank, fires))]
    return Kind.INFO if all(entry.superseded_by is not None for entry in news) else Kind.SUCCESS


def _alerts(entries: Iterable[Entry]) -> list[Alert]:
    return [entry.alert for entry in entries]


def _firing(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.kind is not MessageKind.RESOLVED]


def _rank(entry: Entry) -> int:
    return _SEVERITIES.get(dict(entry.alert.labels).get("severity", ""), 1)


def _prefixed(rank: int, text: str, *, still: bool = False) -> str:
    """`Critical: …`, `Warning, still: …`; what is for information needs no word in front."""
    prefix = _capital(", ".join(word for word in (_PREFIXES[rank], "still" if still else "") if word))
    return f"{prefix}: {text}" if prefix else text


def _alertname(entry: Entry) -> str:
    return plain(dict(entry.alert.labels).get("alertname", "")) or "alert"


def _annotation(entry: Entry, name: str) -> str:
    return dict(entry.alert.annotations).get(name, "")


def _resolution(entry: Entry) -> str:
    return plain(_annotation(entry, "resolution")) or "over"


def _now_true(entry: Entry) -> str:
    """What is true now, of an alert that is over: its summary without the words that say so."""
    summary = messages.before_belated(entry.alert) if entry.belated else _annotation(entry, "summary")
    return plain(summary).removeprefix(f"{_resolution(entry)}: ") or subject(entry.alert)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    text = plain(text)
    return text if not text or text[-1] in ".!?…" else f"{text}."


def _title(text: str, limit: int) -> str:
    """The text, or its first clauses where it is too long."""
    if len(text) <= limit:
        return text
    start = text[: limit - 1]
    cut = max(start.rfind(mark) for mark in _CLAUSES)
    if cut < limit // 2:  # a name as long as that
        cut = start.rfind(" ") if " " in start[limit // 2 :] else len(start)
    return f"{start[:cut]}…"


def _body(parts: Callable[[int], list[list[str]]], limit: int) -> str:
    """As many lines as fit, whole ones, and how many do not."""
    for most in range(LINES, -1, -1):
        body = _joined(parts(most))
        if len(body) <= limit:
            return body
    kept: list[list[str]] = []
    left_out = 0
    for part in parts(0):
        kept.append([])
        for line in filter(None, part):
            kept[-1].append(line)
            if len(_joined(kept)) > limit - _NOTE:
                kept[-1].pop()
                left_out += 1
    note = f"({words.counted(left_out, 'line')} left out: too long)"
    return _joined([*kept, [note]]) if any(kept) else ""


def _joined(parts: Iterable[Iterable[str]]) -> str:
    paragraphs = ("\n".join(filter(None, part)) for part in parts)
    return "\n\n".join(filter(None, paragraphs))

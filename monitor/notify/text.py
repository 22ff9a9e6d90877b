"""A message in words for people: a title for a lock screen, a body for a chat, and how bad it is.

Pure. Plain text without any markup: what one service renders, the next one prints as garbage. It says what
the labels and annotations of the alerts say, and nothing else: no secret and no phone number is in those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitor import words
from monitor.model import Alert, Entry, Message, MessageKind
from monitor.notify import phrases
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


_KINDS = (Kind.INFO, Kind.WARNING, Kind.FAILURE)  # by rank

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
    closing = [phrases.sentence(section.head()) for section in _sections(superseded)]
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


def _alone(entry: Entry, page: str) -> list[list[str]]:
    """All there is to say of it, below its sentence."""
    fires = entry.kind is not MessageKind.RESOLVED
    why = [
        phrases.cause(phrases.annotation(entry, "cause")),
        phrases.sentence(phrases.annotation(entry, "report")),
        phrases.sentence(phrases.annotation(entry, "description")),
    ]
    labels = dict(entry.alert.labels)
    named = [f"Alert {phrases.alertname(entry)}"]
    named += [f"account {labels['account']}"] if labels.get("account") else []
    named += [f"batch {labels['batch_id']}"] if labels.get("batch_id") else []
    named += [f"{name}={value}" for name, value in entry.alert.labels if name not in _OWN and value]
    return [
        why if fires else [],  # both were true of what is over
        [phrases.times([entry]), phrases.sentence(", ".join(named)), *_links(entry), page],
    ]


def _links(entry: Entry) -> list[str]:
    links = (("Dashboard", "dashboard_url"), ("Runbook", "runbook_url"))
    return [f"{word}: {url}" for word, name in links if (url := plain(phrases.annotation(entry, name)))]


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
        return over, -max(map(phrases.rank, self.entries)), still, -len(self.entries)

    @property
    def over(self) -> bool:
        return self.entries[0].kind is MessageKind.RESOLVED

    def short(self) -> str:
        """`3 batches stalled`."""
        still = self.entries[0].kind is MessageKind.REMINDER
        return counted(phrases.alerts(self.entries), over=self.over, still=still)

    def head(self, place: str = "") -> str:
        """`Warning: 3 batches stalled on account main`."""
        first = self.entries[0]
        if not self.over:
            return phrases.prefixed(max(map(phrases.rank, self.entries)), self.short() + place)
        return phrases.capital(f"{phrases.fate(first)}: {self.short()}{place}")

    def lines(self, most: int, place: str | None) -> list[str]:
        """Up to `most` of its alerts, the common cause said once. `place`: for its head; None: the title was that."""
        if len(self.entries) == 1:
            return [
                phrases.said(self.entries[0]),
                phrases.cause(phrases.annotation(self.entries[0], "cause")) if not self.over else "",
            ]
        cause, count = self._common_cause()
        of = "" if count == len(self.entries) else f" of {count:,} of them"
        single_account = len(accounts(phrases.alerts(self.entries))) < 2
        found = [] if place is None else [f"{self.head(place)}:"]
        found.append(phrases.cause(cause, of))
        for entry in self.entries[:most]:
            line = phrases.now_true(entry) if self.over else plain(phrases.annotation(entry, "summary"))
            line = line or subject(entry.alert)
            account = dict(entry.alert.labels).get("account")
            line += f" (account {plain(account)})" if account and not single_account else ""
            line += f" ({phrases.times([entry])[:-1].lower()})" if entry.belated else ""
            own = phrases.annotation(entry, "cause") if not self.over else ""
            found.append(f"- {line}. {phrases.cause(own)}" if own and own != cause else f"- {line}")
        if (left := len(self.entries) - most) > 0:
            found.append(
                f"and {left:,} more." if most else f"All {left:,} of them are too many to be listed."
            )
        found.append(phrases.times(self.entries))
        runbooks = {phrases.annotation(entry, "runbook_url") for entry in self.entries}
        if not self.over and len(runbooks) == 1 and (runbook := plain(runbooks.pop())):
            found.append(f"Runbook: {runbook}")
        return found

    def _common_cause(self) -> tuple[str, int]:
        """The cause that most of them share, and how many do."""
        causes = Counter(phrases.annotation(entry, "cause") for entry in self.entries if not self.over)
        cause, count = causes.most_common(1)[0] if causes else ("", 0)
        return (cause, count) if 2 * count > len(self.entries) else ("", 0)


def _sections(entries: Iterable[Entry]) -> list[_Section]:
    found: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        resolution = phrases.resolution(entry) if entry.kind is MessageKind.RESOLVED else ""
        found.setdefault((phrases.alertname(entry), entry.kind, entry.belated, resolution), []).append(entry)
    sections = [
        _Section(tuple(sorted(group, key=lambda entry: (-phrases.rank(entry), entry.alert.starts_at))))
        for group in found.values()
    ]
    return sorted(sections, key=lambda section: section.order)


def _head_place(section: _Section, sections: Sequence[_Section]) -> str | None:
    """What the head of a section says of accounts, beyond what the title says. None: it needs no head."""
    if len(sections) == 1:
        return None
    everything = [entry.alert for one in sections for entry in one.entries]
    return where(phrases.alerts(section.entries)) if len(accounts(everything)) > 1 else ""


def _headline(sections: Sequence[_Section]) -> str:
    """One sentence for all of them, the worst first."""
    everything = [entry for section in sections for entry in section.entries]
    if len(everything) == 1:
        return phrases.said(everything[0])
    place = where(phrases.alerts(everything))
    if len(sections) == 1:
        return sections[0].head(place)
    fires, over = ([one for one in sections if one.over is wanted] for wanted in (False, True))
    shown = fires or over
    said = ", ".join(section.short() for section in shown[:_TITLED])
    if left := sum(len(section.entries) for section in shown[_TITLED:]):
        said += f" and {left:,} more"
    resolutions = {phrases.resolution(entry) for section in over for entry in section.entries}
    how = resolutions.pop() if len(resolutions) == 1 else "over"
    if not fires:
        return phrases.capital(f"{how}: {said}{place}")
    ended = sum(len(section.entries) for section in over)
    also = f"; {ended:,} {'recovered' if how == 'recovered' else 'over'}" if ended else ""
    return phrases.prefixed(max(map(phrases.rank, phrases.firing(everything))), said + place + also)


def _still(alerts: Sequence[Alert], left_out: int) -> str:
    """What was told before, in one line."""
    if not alerts and not left_out:
        return ""
    by_name: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_name.setdefault(dict(alert.labels).get("alertname", ""), []).append(alert)
    said = [counted(group) for group in sorted(by_name.values(), key=len, reverse=True)]
    said += [f"{left_out:,} more"] if left_out else []
    return phrases.sentence(f"Told before and still firing: {', '.join(said)}")


# Words


def _kind(news: Sequence[Entry]) -> Kind:
    """The worst of what fires. An end is good news, unless something worse took its place."""
    if fires := phrases.firing(news):
        return _KINDS[max(map(phrases.rank, fires))]
    return Kind.INFO if all(entry.superseded_by is not None for entry in news) else Kind.SUCCESS


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

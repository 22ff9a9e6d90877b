"""The pages for people: all batches at `/`, one at `/batches/{batch_id}`; and what they are styled and kept fresh with.

Drawn on the server, on a thread of their own, complete without any script; page.js keeps them fresh and
puts times into the viewer's zone. Nothing is loaded from elsewhere, and nothing here changes anything.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from aiohttp import hdrs, web
from markupsafe import Markup, escape

from monitor import __version__, choice, glossary, words
from monitor.choice import Choice, Sort
from monitor.model import Phase, Record, Snapshot, StateChange, Status
from monitor.outlook import outlook
from monitor.web import answers, drawing, notifications
from monitor.web.surface import Surface

if TYPE_CHECKING:
    import jinja2

ROWS = 50
"""Batches on one page, unless the URL's `limit` says otherwise."""

_ALERTS = 6
"""Firing alerts of which the page says more than that they are counted."""

_RECORDS = 15
"""Notifications on the page; `/api/v1/notifications` has all of them."""

_BATCH_RECORDS = 100
"""Notifications in the timeline of one batch."""

_ALIKE = 20
"""Batches that are offered where the beginning of an id is that of several."""

_STALE = timedelta(minutes=1)
"""A look at a batch that is late by this much is worth a warning."""

_GZIP_FROM = 1000
"""Bytes, below which compressing saves less than it costs."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _read(name: str) -> bytes:
    return resources.files("monitor.web").joinpath("templates", name).read_bytes()


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    content_type: str
    version: str  # changes with the content, so that browsers may keep it for good

    @classmethod
    def load(cls, name: str, content_type: str) -> _Asset:
        content = _read(name)
        return cls(content, content_type, hashlib.sha256(content).hexdigest()[:12])


_ASSETS = {
    "page.css": _Asset.load("page.css", "text/css"),
    "page.js": _Asset.load("page.js", "text/javascript"),
    "favicon.svg": _Asset.load("favicon.svg", "image/svg+xml"),
}


async def overview(surface: Surface, request: web.Request) -> web.Response:
    """All batches that the URL's query asks for, the worst first; 400 where it asks for what there is not."""
    snapshot, error = surface.snapshot(), None
    try:
        asked = choice.asked(request.query, limit=ROWS)
    except ValueError as mistake:
        asked, error = Choice(limit=ROWS), str(mistake)
    records = surface.latest_records(_RECORDS)
    text = await asyncio.to_thread(_overview, snapshot, asked, records, error)
    return await _page(request, text, 400 if error else 200)


async def batch(surface: Surface, request: web.Request) -> web.Response:
    """One batch, by its id or as much of its beginning as no other batch has."""
    batch_id = request.match_info["batch_id"]
    found, snapshot = surface.explain(batch_id), surface.snapshot()
    if len(found) != 1:
        several = [status for status, _ in found[:_ALIKE]]
        text = _draw(
            "missing.html", snapshot, root="../", batch_id=batch_id, several=several, count=len(found)
        )
        return await _page(request, text, 404)
    [(status, explanations)] = found
    records, complete = await surface.records(
        batch_id=status.key.batch_id, receiver=None, before=None, count=_BATCH_RECORDS
    )
    text = await asyncio.to_thread(
        _draw,
        "batch.html",
        snapshot,
        root="../",
        row=_Row(status, snapshot),
        chart=drawing.chart(status, snapshot.at),
        chart_size=drawing.CHART,
        slices=drawing.slices(status.outcomes) if status.outcomes else (),
        explanations=explanations,
        timeline=_timeline(status, records),
        complete=complete,
        muted=next((one.until for one in snapshot.mutes if one.batch_id == status.key.batch_id), None),
    )
    return await _page(request, text)


async def asset(request: web.Request) -> web.Response:
    """What the pages need besides themselves."""
    found = _ASSETS.get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    kept = request.query.get("v") == found.version
    headers = {
        hdrs.CACHE_CONTROL: "public, max-age=31536000, immutable" if kept else "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    response = web.Response(body=found.content, content_type=found.content_type, headers=headers)
    return await compressed(request, response)


async def favicon(_: web.Request) -> web.Response:
    """Where browsers look for an icon unasked."""
    found = _ASSETS["favicon.svg"]
    return web.Response(body=found.content, content_type=found.content_type)


def takes_gzip(request: web.Request) -> bool:
    """Whether the client can take gzip: it names it, and not with a weight of 0 (RFC 9110, 12.5.3)."""
    accepted = ",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())).lower().replace(" ", "").split(",")
    weights = {coding: weight for coding, _, weight in (one.partition(";q=") for one in accepted)}
    return "gzip" in weights and not re.fullmatch(r"0(\.0*)?", weights["gzip"])


async def compressed(request: web.Request, response: web.Response) -> web.Response:
    """The same, gzipped where that is worth it and the client can take it; on another thread, for it may be long."""
    response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    body = response.body
    if isinstance(body, bytes) and len(body) >= _GZIP_FROM and takes_gzip(request):
        response.body = await asyncio.to_thread(gzip.compress, body, 6, mtime=0)
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return response


async def _page(request: web.Request, text: str, code: int = 200) -> web.Response:
    response = web.Response(status=code, text=text, content_type="text/html", headers=HEADERS)
    return await compressed(request, response)


# What is drawn


class _Row:
    """One batch as the pages show it."""

    def __init__(self, status: Status, snapshot: Snapshot) -> None:
        self.status = status
        self.state = status.assessment.state
        self.meaning = glossary.STATES[self.state]
        self.at_risk = choice.at_risk(status)
        self.seen = seen = status.progress.last if status.progress else None
        self.ratio = status.assessment.completion_ratio
        self.done = words.done(seen.completed, seen.total) if seen else ""
        # Beside the count and the state, neither is a reason.
        reason = status.assessment.why.removesuffix(self.done).removesuffix(": ")
        self.reason = "" if reason == self.state else reason
        self.outlook = outlook(status)
        self.window = (
            words.window(seen.window_start, seen.window_end, seen.ended_at, snapshot.at) if seen else ""
        )
        self.sparkline = drawing.sparkline(status)
        self.since = latest.at if (latest := status.changes.latest) else None
        self.firing = [
            answers.labelled(status, alert) for alert in status.alerts if alert.phase is Phase.FIRING
        ]
        self.age = snapshot.at - status.last_success_at if status.last_success_at else None
        due = status.next_poll_at
        self.stale = status.failing is not None or (due is not None and snapshot.at - due > _STALE)
        self.failure = glossary.FAILURES[status.failing.reason] if status.failing else None


def _overview(snapshot: Snapshot, asked: Choice, records: tuple[Record, ...], error: str | None) -> str:
    chosen = choice.choose(snapshot.batches, asked)
    # What a tile leads to asks for no alert and for one state: so it counts.
    tiles = (
        choice.choose(snapshot.batches, replace(asked, firing="", states=(), limit=1))
        if asked.firing
        else chosen
    )
    firing = [alert for alert in answers.standing(snapshot) if alert.phase is Phase.FIRING]
    return _draw(
        "overview.html",
        snapshot,
        root="",
        error=error,
        asked=asked,
        chosen=chosen,
        tiles=tiles,
        rows=[_Row(status, snapshot) for status in chosen.rows],
        everything=len(snapshot.batches),
        firing=firing[:_ALERTS],
        states=choice.WORST_FIRST,
        sorts=Sort,
        link=lambda **changes: _link(asked, **changes),
        records=[notifications.record(one) for one in records],
        names={status.key.batch_id: status.batch for status in snapshot.batches},
    )


def _link(asked: Choice, **changes: Any) -> str:
    """The query that asks for the same but for these; whatever changes begins at its first page."""
    wanted: dict[str, Any] = {
        "state": ",".join(asked.states),
        "account": asked.account,
        "firing": asked.firing,
        "q": asked.search,
        "sort": ("-" if asked.reverse else "") + asked.sort.value,
        "limit": asked.limit,
    } | changes
    usual = {"sort": Sort.WORST.value, "limit": ROWS, "page": 1}
    query = {name: value for name, value in wanted.items() if value and value != usual.get(name)}
    return "?" + urlencode(query)


def _timeline(
    status: Status, records: tuple[Record, ...]
) -> list[tuple[datetime, StateChange | None, dict[str, Any] | None]]:
    """Changes of state and messages, the newest first."""
    found: list[tuple[datetime, StateChange | None, dict[str, Any] | None]] = [
        (change.at, change, None) for change in status.changes
    ]
    found += [(one.notification.created_at, None, notifications.record(one)) for one in records]
    return sorted(found, key=lambda entry: entry[0], reverse=True)


# Templates


def _when(at: datetime | str | None, *, seconds: bool = False) -> Markup:
    """An instant: in UTC here, in the viewer's zone once page.js has seen it, with UTC on hover."""
    if at is None:
        return Markup("")
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    stamp, whole = answers.time(at), at.strftime("%Y-%m-%d %H:%M:%S UTC")
    shown = at.strftime("%H:%M:%S UTC" if seconds else "%Y-%m-%d %H:%M UTC")
    kind = "clock" if seconds else "instant"
    return Markup('<time datetime="{}" title="{}" data-as="{}">{}</time>').format(stamp, whole, kind, shown)


_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2} UTC")


def _sentence(text: str) -> Markup:
    """A sentence in which instants are instants, too."""

    def marked(found: re.Match[str]) -> str:
        try:
            return str(_when(datetime.fromisoformat(f"{found[0][:16]}+00:00")))
        except ValueError:  # a name may look like an instant that there is not
            return found[0]

    return Markup(_INSTANT.sub(marked, str(escape(text))))  # noqa: S704 - escaped, but for what _when makes


def _asset_url(name: str) -> str:
    return f"static/{name}?v={_ASSETS[name].version}"


@cache
def _templates() -> jinja2.Environment:
    """Loaded when the first page is asked for: a monitor that is only scraped does without it, and its 2 MB."""
    import jinja2  # noqa: PLC0415 - not before it is needed

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("monitor.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"when": _when, "sentence": _sentence}
    found.globals |= {
        "asset": _asset_url,
        "assets_version": "-".join(one.version for one in _ASSETS.values()),
        "glossary": glossary,
        "spark": drawing.SPARKLINE,
        "version": __version__,
        "words": words,
    }
    return found


def _draw(name: str, snapshot: Snapshot, **values: Any) -> str:
    accounts = words.counted(len(snapshot.accounts), "account")
    batches = len(snapshot.batches)
    watching = f"{batches:,} {'batch' if batches == 1 else 'batches'} of {accounts}"
    firing = sum(alert.phase is Phase.FIRING for alert in snapshot.alerts)
    return (
        _templates()
        .get_template(name)
        .render(snapshot=snapshot, watching=watching, firing_count=firing, **values)
    )

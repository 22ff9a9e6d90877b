"""`/api/v1/notifications`, `mutes` and `test-alert`: who was told what, who is not to be told, and whether it works."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from monitor.model import Mute, Record
from monitor.web import answers
from monitor.web.surface import Surface

MOST_RECORDS = 1000
"""Notifications in one answer; `before` asks for those that came earlier."""

LONGEST_MUTE = timedelta(days=30)


async def notifications(surface: Surface, request: web.Request) -> web.Response:
    """Who was told what, the newest first, and what waits: `?batch_id=…&receiver=…&before=…&limit=…`."""
    asked = request.query
    limit, before = asked.get("limit", "100"), None
    # isdecimal: int() takes blanks, signs and underscores, too
    if not limit.isdecimal() or len(limit) > len(str(MOST_RECORDS)) or not 1 <= int(limit) <= MOST_RECORDS:
        return _bad(f"limit must be a number from 1 to {MOST_RECORDS}")
    if "before" in asked:
        try:
            before = datetime.fromisoformat(asked["before"])
        except ValueError:
            return _bad("before must be an instant like 2026-11-23T09:30:00Z")
        if before.tzinfo is None:
            return _bad("before needs its offset from UTC, or a Z")
    batch_id, count = asked.get("batch_id", "").lower(), int(limit)
    records, complete = await surface.records(
        batch_id=batch_id or None, receiver=asked.get("receiver") or None, before=before, count=count
    )
    data = {
        "at": answers.time(surface.snapshot().at),
        "complete": complete,
        "notifications": [record(one) for one in records],
    }
    return _answer(answers.success(data))


def record(one: Record) -> dict[str, Any]:
    """A notification in the words of the API."""
    row, labels = one.notification, dict(one.notification.alert.labels)
    return {
        "id": row.id,
        "receiver": row.receiver,
        "why": _WHY[row.kind.value],
        "alertname": labels.get("alertname"),
        "severity": labels.get("severity"),
        "account": labels.get("account"),
        "batch_id": labels.get("batch_id"),
        "batch": labels.get("batch"),
        "summary": dict(row.alert.annotations).get("summary"),
        "starts_at": answers.time(row.alert.starts_at),
        "ends_at": answers.time(row.alert.ends_at),
        "created_at": answers.time(row.created_at),
        "status": status(one),
        "settled_at": answers.time(row.settled_at),
        "waits_for": one.waits_for,
        "waits_until": answers.time(one.until),
        "attempts": row.attempts,
        "last_error": row.last_error,
        "overtaken": row.overtaken,
        "message_id": row.message_id,
    }


_WHY = {"firing": "first", "reminder": "reminder", "resolved": "resolved"}


def status(one: Record) -> str:
    """`waiting`, `delivered`, `dropped`, or `overtaken`: there was nothing left to tell."""
    row = one.notification
    if row.delivered_at is not None:
        return "delivered"
    if row.dropped_at is not None:
        return "dropped"
    return "overtaken" if row.overtaken_at is not None else "waiting"


async def mutes(surface: Surface, _: web.Request) -> web.Response:
    """The mutes that hold now."""
    snapshot = surface.snapshot()
    names = {status.key.batch_id: status.batch for status in snapshot.batches}
    return _answer(
        answers.success({"mutes": [_mute(one, names.get(one.batch_id)) for one in snapshot.mutes]})
    )


async def mute(surface: Surface, request: web.Request) -> web.Response:
    """Hold a batch's messages: `{"batch_id": …, "for_seconds": 7200}`; 0 ends that."""
    asked = await _asked(request, "batch_id", "for_seconds")
    if isinstance(asked, web.Response):
        return asked
    batch_id, seconds = asked.get("batch_id"), asked.get("for_seconds")
    if not isinstance(batch_id, str) or not batch_id:
        return _bad("say which: batch_id, or the beginning of one")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return _bad("say for how long: for_seconds, 0 to end a mute")
    if not 0 <= seconds <= LONGEST_MUTE.total_seconds():
        return _bad("for_seconds must be from 0 to 30 days")
    found = surface.watched(batch_id)
    if len(found) > 1:
        return _bad(f"{len(found)} batches' ids begin like this: give more of it")
    if not found:
        return _answer(answers.error("not_found", "no watched batch has this id"), 404)
    [watched] = found
    until = surface.snapshot().at + timedelta(seconds=seconds)
    await surface.mute(watched.key.batch_id, until)
    return _answer(answers.success(_mute(Mute(watched.key.batch_id, until), watched.batch)))


def _mute(one: Mute, name: str | None) -> dict[str, Any]:
    """`name`: None of a batch that is no longer watched."""
    return {"batch_id": one.batch_id, "batch": name, "until": answers.time(one.until)}


async def test_alert(surface: Surface, request: web.Request) -> web.Response:
    """Send a test alert: `{}` to every receiver, `{"receiver": …}` to one."""
    asked = await _asked(request, "receiver")
    if isinstance(asked, web.Response):
        return asked
    receiver = asked.get("receiver")
    if receiver is not None and not isinstance(receiver, str):
        return _bad("receiver must be a name")
    tested = await surface.test_alert(receiver)
    if receiver is not None and not tested:
        return _answer(answers.error("not_found", "no receiver has this name"), 404)
    data = [{"receiver": one.receiver, "error": one.error, "seconds": one.seconds} for one in tested]
    return _answer(answers.success({"receivers": data}))


async def _asked(request: web.Request, *keys: str) -> dict[str, Any] | web.Response:
    """The body. Only JSON that says it is JSON: no page elsewhere can have a browser send that to us.

    With these keys and no other: a test alert to a mistyped `reciever` would go to everybody.
    """
    if request.content_type != "application/json":
        return _answer(answers.error("bad_data", "send Content-Type: application/json"), 415)
    try:
        asked = json.loads(await request.read())
    except (ValueError, RecursionError):  # nested too deep
        return _bad("the body is not JSON")
    if not isinstance(asked, dict):
        return _bad("the body must be a JSON object")
    if unknown := sorted(asked.keys() - set(keys)):
        return _bad(f"{unknown[0]}: there is no such key; there are {', '.join(keys)}")
    return asked


def _bad(text: str) -> web.Response:
    return _answer(answers.error("bad_data", text), 400)


def _answer(body: dict[str, Any], code: int = 200) -> web.Response:
    return web.json_response(body, status=code, headers={"Cache-Control": "no-store"})

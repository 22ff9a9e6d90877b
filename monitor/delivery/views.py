"""What a notification waits for, for people who ask why they have not been told."""

from __future__ import annotations

from datetime import datetime, timedelta

from monitor import outbox
from monitor.delivery.queue import Queue
from monitor.model import MessageKind, Notification, Record
from monitor.notify.channel import StateChannel, still_to_wait
from monitor.routing import Pacing


def record(queue: Queue, row: Notification, now: datetime) -> Record:
    """What a notification waits for, and until when."""
    group_wait = timedelta(0)
    if queue.settings is not None and not isinstance(queue.settings.channel, StateChannel):
        group_wait = queue.settings.pacing.group_wait
        group_wait *= outbox.REMINDERS_WAIT if row.kind is MessageKind.REMINDER else 1
    flying = next((one for one in queue.under_way.values() if row.id in one.settles), None)
    held = row.held_until if row.held_until is not None and row.held_until > now else None
    paused = still_to_wait(queue.paused_until, now)
    postponed = still_to_wait(row.next_attempt_at, now)
    if row.settled:
        return Record(row)
    if queue.settings is None:
        return Record(row, "its receiver is not configured", row.created_at + Pacing().give_up_after)
    if paused:
        return Record(row, f"the receiver fails: {queue.last_error}", now + paused)
    if flying is not None and flying.attempts:
        return Record(row, "it may have arrived and is sent again", flying.next_attempt_at)
    if flying is not None:
        return Record(row, "it is being sent")
    if held is not None:
        return Record(row, "it is muted", held)
    if postponed:
        return Record(row, f"it was not taken: {row.last_error}", now + postponed)
    if wait := queue.must_wait(now):
        return Record(row, "the receiver was told much at once", now + wait)
    if row.created_at + group_wait > now:
        return Record(row, "what falls due with it is told with it", row.created_at + group_wait)
    return Record(row, "it is due")

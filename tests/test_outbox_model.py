"""Whatever happens, and in whatever order: what is told is true, in order, once, and all of it.

A small reference listens with two receivers' ears while the real delivery, on a real state file, is led
through outages, crashes, reloads and mutes. OUTBOX_EXAMPLES sets how many such lives are tried.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from receivers import MovedClock
from samples import account, batch_key, observation, status

from monitor import evaluate, messages, notify
from monitor.alerts import Policy, Rule
from monitor.decisions import Voice, decide_account, decide_batch
from monitor.delivery import Delivery, Settings
from monitor.metrics import Instruments
from monitor.model import (
    AlertName,
    FailureReason,
    Labels,
    Message,
    MessageKind,
    Mute,
    Notification,
    State,
)
from monitor.notify.channel import SendError, SendFailure
from monitor.routing import Pacing
from monitor.store import Change, Store

EXAMPLES = int(os.environ.get("OUTBOX_EXAMPLES", "60"))
pytestmark = pytest.mark.timeout(60 if EXAMPLES <= 60 else 0)

FIRING, RESOLVED, REMINDER = MessageKind.FIRING, MessageKind.RESOLVED, MessageKind.REMINDER
NAMES = ("crm", "chat")
GROUP_BY = {"crm": ("account", "alertname"), "chat": ()}
BATCHES = tuple(batch_key(number) for number in (1, 2, 3))
PACING = Pacing(group_wait=timedelta(seconds=30), give_up_after=timedelta(hours=24))
AT_ONCE = Rule(None, timedelta(0), timedelta(0), timedelta(hours=1))
POLICY = Policy(
    rules=dict.fromkeys(
        (
            AlertName.BATCH_ENDED_INCOMPLETE,
            AlertName.BATCH_OVERDUE,
            AlertName.BATCH_STALLED,
            AlertName.ACCOUNT_UNREACHABLE,
        ),
        AT_ONCE,
    )
)


class Crash(BaseException):
    """The process is gone, here and now."""


def _error(reason: SendFailure, status: int | None = None, **more) -> SendError:
    return SendError(reason, f"answered {status or reason}", status=status, **more)


# What a receiver does with a post: whether it arrives, and what the sender sees.
ANSWERS = {
    "ok": (True, None),
    "down": (False, _error(SendFailure.CONNECTION)),
    "busy": (False, _error(SendFailure.SERVER_ERROR, 503)),
    "throttles": (False, _error(SendFailure.THROTTLED, 429, retry_after=timedelta(minutes=2))),
    "rejects the token": (False, _error(SendFailure.REFUSED, 401)),
    "is lost": (False, _error(SendFailure.TIMEOUT, may_have_arrived=True)),
    "arrives, and no answer comes": (True, _error(SendFailure.TIMEOUT, may_have_arrived=True)),
    "arrives, and the gateway gives up": (True, _error(SendFailure.SERVER_ERROR, 502, may_have_arrived=True)),
}
answers = st.sampled_from(sorted(ANSWERS))


@dataclass
class Ear:
    """What one receiver has accepted, judged as it comes in against what is true."""

    name: str
    truth: dict[str, Notification]  # every row that was committed, as it was said first
    latest: dict[str, Notification]  # the same with what has become of it
    script: deque[str] = field(default_factory=deque)
    otherwise: str = "ok"
    poisonous: set[str] = field(default_factory=set)  # batches of which it can hear nothing
    accepted: dict[str, Message] = field(default_factory=dict)
    under: dict[str, str] = field(default_factory=dict)  # of a row: the message that first told it
    stands: dict[tuple[Labels, datetime], str] = field(default_factory=dict)  # of an episode: fires, over
    last: dict[Labels, datetime] = field(default_factory=dict)  # the latest episode told of an alert
    # Told, not known to have arrived, and given up in part: what comes after may say it again.
    excused: set[Labels] = field(default_factory=set)

    def receive(self, message: Message) -> SendError | None:
        answer = self.script.popleft() if self.script else self.otherwise
        arrives, error = ANSWERS[answer]
        if not arrives:
            return error
        said = {dict(alert.labels).get("batch_id") for alert in _alerts(message)}
        if message.id not in self.accepted and said & self.poisonous:
            return _error(SendFailure.REFUSED, 400)
        self._accept(message)
        return error

    def _accept(self, message: Message) -> None:
        before = self.accepted.setdefault(message.id, message)
        tries = {"created_at": before.created_at, "attempts": 0, "next_attempt_at": None}
        assert replace(before, **tries) == replace(message, **tries), "the same id, another content"
        if before is not message:
            return
        named = [alert.labels for alert in _alerts(message)]
        assert len(named) == len(set(named)), "twice the same alert in one message"
        for alert in message.still:
            if alert.labels not in self.excused:
                assert self.stands.get((alert.labels, alert.starts_at)) == "fires", "still, and never before"
        for entry in message.entries:
            if entry.alert.labels not in self.excused:
                self._judge(message, entry)

    def _judge(self, message, entry) -> None:
        labels, began = entry.alert.labels, entry.alert.starts_at
        rows = [self.truth[name] for name in entry.settles]
        assert {(row.receiver, row.alert.labels, row.alert.starts_at) for row in rows} == {
            (self.name, labels, began)
        }
        for row in rows:
            assert self.under.setdefault(row.id, message.id) == message.id, "told again under another id"
        last, stood = self.last.get(labels), self.stands.get((labels, began))
        assert last is None or last <= began, "an earlier episode after a later one"
        if last is not None and last < began and self.stands[labels, last] == "fires":
            end = next((row for row in self.latest.values() if self._is_end(row, labels, last)), None)
            fine = rows[0].one_shot if end is None else end.dropped_at is not None
            assert fine, "the end of the one before is missing"
        match entry.kind:
            case MessageKind.FIRING:
                assert stood is None, "it was told before that it fires"
            case MessageKind.REMINDER:
                assert stood == "fires", "reminded of what was not told, or is over"
            case _:
                assert stood == (None if entry.belated else "fires"), "an end without its beginning"
                [end] = [row for row in rows if row.kind is RESOLVED]
                assert entry.alert.ends_at == end.alert.ends_at
                assert not (entry.belated and entry.superseded_by), "it was superseded before it was told"
        self.stands[labels, began] = "over" if entry.kind is RESOLVED else "fires"
        self.last[labels] = began

    def _is_end(self, row: Notification, labels: Labels, began: datetime) -> bool:
        of = (row.receiver, row.alert.labels, row.alert.starts_at)
        return row.kind is RESOLVED and of == (self.name, labels, began)

    def excuse(self, dropped: Notification) -> None:
        for message in self.accepted.values():
            if dropped.id in message.settles and self.latest[dropped.id].delivered_at is None:
                self.excused |= {entry.alert.labels for entry in message.entries}


def _alerts(message: Message) -> list:
    return [*(entry.alert for entry in message.entries), *message.still]


@dataclass(eq=False)
class Hook:
    """A channel that ends in an ear."""

    ear: Ear
    fuse: Fuse

    @property
    def group_by(self) -> tuple[str, ...]:
        return GROUP_BY[self.ear.name]

    async def send(self, wire, message: Message) -> None:
        self.fuse.burn()
        error = self.ear.receive(message)
        self.fuse.burn()
        if error is not None:
            raise error


@dataclass
class Fuse:
    """When the process is to end: after so many chances."""

    left: int | None = None

    def burn(self) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            raise Crash


class Life(RuleBasedStateMachine):
    """A monitor with two receivers, three batches, and bad luck."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.runner = asyncio.Runner()
        self.clock = MovedClock()
        self.fuse = Fuse()
        self.truth: dict[str, Notification] = {}
        self.latest: dict[str, Notification] = {}
        self.ears = {name: Ear(name, self.truth, self.latest) for name in NAMES}
        self.hooks = {name: Hook(ear, self.fuse) for name, ear in self.ears.items()}
        self.configured: tuple[str, ...] = NAMES
        self.disk_fails = False
        self.statuses = {key: status(key=key) for key in BATCHES}
        self.ended_at: dict[object, datetime] = {}
        self.account = account()
        self.mutes: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
        self.listeners: dict[datetime, tuple[str, ...]] = {}  # who was configured when something was dropped

    @initialize()
    def begin(self) -> None:
        self.run(self._open())

    def run(self, work):
        self.failed = True
        found = self.runner.run(work)
        self.failed = False
        return found

    # The process

    async def _open(self) -> None:
        self.store = Store(self.home / "monitor.db", clock=self.clock)
        commit, write = self.store.commit, self.store._file.write

        async def watched_commit(change: Change) -> bool:
            self.fuse.burn()
            written = await commit(change)
            assert written or self.disk_fails
            self._note(change)
            self.fuse.burn()
            return written

        def failing_write(*records, **more) -> None:
            if self.disk_fails:
                raise OSError("disk full")
            write(*records, **more)

        self.store.commit, self.store._file.write = watched_commit, failing_write
        self.delivery = Delivery(
            self.store,
            clock=self.clock,
            instruments=Instruments(endpoints=(), send_failures=notify.FAILURES, now=self.clock()),
            jitter=lambda top: top,
        )
        self.delivery._employ = lambda queue: None
        self.delivery._turns.session = SimpleNamespace()
        contents = await self.store.open()
        known = {row.id: row for row in contents.notifications}
        assert known.items() <= self.latest.items()
        assert {row.id for row in self.latest.values() if not row.settled} <= known.keys()
        self.delivery.restore(contents)
        self._configure()

    def _note(self, change: Change) -> None:
        for row in change.notifications:
            self.truth.setdefault(row.id, row)
            self.latest[row.id] = row
            if row.dropped_at == self.clock():
                self.listeners[self.clock()] = self.configured
                self.ears[row.receiver].excuse(row)

    async def _crash(self) -> None:
        """Nothing more is written; what the process held is gone."""
        await asyncio.wrap_future(self.store._thread.submit(self.store._file.close))
        self.store._thread.shutdown()
        await self._open()

    def _configure(self) -> None:
        found = {name: Settings(self.hooks[name], pacing=PACING) for name in self.configured}
        self.receivers = self.delivery.set_receivers(found)

    async def _turn(self, name: str) -> timedelta | None:
        queue = self.delivery._queues.get(name)
        return None if queue is None else await self.delivery._turns.take(queue)

    async def _all_turn(self) -> list[timedelta]:
        for queue in self.delivery._queues.values():
            queue.woken.clear()
        waits = [await self._turn(name) for name in NAMES]
        woken = any(queue.woken.is_set() for queue in self.delivery._queues.values())
        return [wait for wait in (*waits, timedelta(0) if woken else None) if wait is not None]

    async def _survive(self, work, crash: int | None) -> None:
        """Do it, and crash on the way if so told."""
        self.fuse.left = None if self.disk_fails else crash
        try:
            await work
        except Crash:
            await self._crash()
        self.fuse.left = None

    crashes = st.none() | st.integers(0, 7)

    @rule(name=st.sampled_from(NAMES), crash=crashes)
    def turn(self, name, crash) -> None:
        self.run(self._survive(self._turn(name), crash))

    @rule()
    def restart(self) -> None:
        if not self.disk_fails:  # what could not be written would be forgotten
            self.run(self._crash())

    @rule(
        seconds=st.sampled_from([1, 10, 31, 31, 31, 70, 301, 301, 400, 1900, 3700, 8 * 3600, 25 * 3600]),
        turns=st.booleans(),
    )
    def time_passes(self, seconds, turns) -> None:
        self.clock.move(seconds=seconds)
        if turns:
            self.run(self._all_turn())

    # The world

    @rule(
        key=st.sampled_from(BATCHES),
        state=st.sampled_from([State.STALLED, State.STALLED, State.RUNNING, State.OVERDUE, State.INCOMPLETE]),
        crash=st.none() | st.none() | st.integers(0, 1),
    )
    def observe(self, key, state, crash) -> None:
        now = self.clock.move(milliseconds=1)  # no two things are seen at the same instant
        if state is State.INCOMPLETE:
            self.ended_at.setdefault(key, now)
        else:
            self.ended_at.pop(key, None)
        seen = observation(
            at=now, window_end=now - timedelta(minutes=10), ended_at=self.ended_at.get(key), completed=118
        )
        after = status(seen, key=key, alerts=self.statuses[key].alerts)
        after = replace(
            after,
            progress=replace(after.progress, end_seen=2 if state is State.INCOMPLETE else 0),
            assessment=replace(after.assessment, state=state),
        )
        told = decide_batch(after, self.account, Voice(POLICY, receivers=self.receivers), now, news=True)

        async def said() -> None:
            if told.notifications:
                await self.store.commit(Change(notifications=told.notifications))
            self.statuses[key] = replace(after, alerts=told.alerts)
            self.delivery.enqueue(told.notifications)

        self.run(self._survive(said(), crash))
        if any(row.id in self.truth for row in told.notifications):  # committed, also if it crashed then
            self.statuses[key] = replace(after, alerts=told.alerts)

    @rule(answers_now=st.booleans())
    def probe(self, answers_now) -> None:
        now = self.clock.move(milliseconds=1)
        failing = None if answers_now else evaluate.failed(None, FailureReason.TIMEOUT, "no answer", now)
        after = replace(self.account, failing=failing)
        told = decide_account(after, Voice(POLICY, receivers=self.receivers), now)
        self.account = replace(after, alerts=told.alerts)
        self.run(self.store.commit(Change(notifications=told.notifications)))
        self.delivery.enqueue(told.notifications)

    @rule(name=st.sampled_from(NAMES), script=st.lists(answers, max_size=4), otherwise=answers)
    def receiver_behaves(self, name, script, otherwise) -> None:
        self.ears[name].script = deque(script)
        self.ears[name].otherwise = otherwise

    @rule(name=st.sampled_from(NAMES), keys=st.sets(st.sampled_from(BATCHES), max_size=1))
    def receiver_cannot_hear_of(self, name, keys) -> None:
        self.ears[name].poisonous = {key.batch_id for key in keys}

    @rule(key=st.sampled_from(BATCHES), minutes=st.sampled_from([0, 0, 5, 120]))
    def mute(self, key, minutes) -> None:
        now = self.clock.move(milliseconds=1)
        mute = Mute(key.batch_id, now + timedelta(minutes=minutes))
        self.mutes[mute.batch_id].append((now, mute.until))
        self.run(self.delivery.mute(mute))
        self.run(self._all_turn())

    @rule(
        configured=st.sampled_from([NAMES, NAMES, NAMES[:1], NAMES[1:]]),
        moved=st.sets(st.sampled_from(NAMES)),
    )
    def reload(self, configured, moved) -> None:
        """Receivers go and come back, perhaps at another address."""
        self.configured = configured
        for name in moved:
            self.hooks[name] = Hook(self.ears[name], self.fuse)
        self._configure()

    @rule(works=st.sampled_from([True, True, False]))
    def disk(self, works) -> None:
        self.disk_fails = not works
        if works:
            self.run(self.store.prune())  # as is done now and then: it writes what could not be written

    # What must hold

    @invariant()
    def the_record_is_true(self) -> None:
        self.failed = True  # until it is found that it is
        self._what_is_marked_as_delivered_was_accepted()
        self._what_is_dropped_is_old_and_the_other_hears_of_it()
        self._what_is_overtaken_had_nothing_left_to_tell()
        self.failed = False

    def _what_is_marked_as_delivered_was_accepted(self) -> None:
        for row in self.latest.values():
            if row.delivered_at is not None:
                assert row.id in self.ears[row.receiver].accepted[row.message_id].settles

    def _what_is_dropped_is_old_and_the_other_hears_of_it(self) -> None:
        for row in self.latest.values():
            if row.dropped_at is None:
                continue
            assert row.dropped_at - row.created_at >= PACING.give_up_after
            if _name(row) == messages.DROPPED:
                continue
            for other in self.listeners[row.dropped_at]:
                assert other == row.receiver or any(
                    (_name(one), one.receiver, one.created_at) == (messages.DROPPED, other, row.dropped_at)
                    for one in self.latest.values()
                )

    def _what_is_overtaken_had_nothing_left_to_tell(self) -> None:
        for row in self.latest.values():
            labels, ear = row.alert.labels, self.ears[row.receiver]
            if row.overtaken_at is None or labels in ear.excused:
                continue
            assert (labels, row.alert.starts_at) not in ear.stands, "it had heard of the beginning"
            episode = [one for one in self.latest.values() if _episode(one) == _episode(row)]
            [end] = [one for one in episode if one.kind is RESOLVED]
            others = [one for one in episode if one is not end]
            if row.overtaken == "its beginning was never told":
                assert row is end
                assert all(one.dropped_at or one.overtaken_at for one in others)
            elif row.overtaken.startswith("superseded"):
                assert end.superseded_by is not None
            else:
                assert row.overtaken == "it was over before its mute was"
                assert self._held(others[0], end)

    def _held(self, first: Notification, end: Notification) -> bool:
        """Whether a mute held the first before it was due, and until its end had come."""
        batch = dict(end.alert.labels).get("batch_id")
        held: list[list[datetime]] = []
        for at, until in self.mutes[batch]:
            if held and held[-1][1] > at:
                held[-1][1] = max(until, at)
            elif until > at:
                held.append([at, until])
        return any(
            at <= first.created_at + PACING.group_wait and until >= end.created_at for at, until in held
        )

    def teardown(self) -> None:
        try:
            if not self.failed:
                self.run(self._all_is_well_for_a_day())
        finally:
            self.runner.run(self.store.close())
            self.runner.close()
            shutil.rmtree(self.home, ignore_errors=True)

    async def _all_is_well_for_a_day(self) -> None:
        self.disk_fails, self.configured = False, NAMES
        self._configure()
        for ear in self.ears.values():
            ear.script.clear()
            ear.poisonous.clear()
            ear.otherwise = "ok"
        await self.store.prune()
        until = self.clock() + timedelta(days=1)
        while waits := await self._all_turn():
            self.clock.now += max(min(waits), timedelta(milliseconds=1))
            assert self.clock() < until, "it takes too long"
        self.the_record_is_true()
        assert [queue.pending for queue in self.delivery.queues()] == [0, 0]
        assert not any(queue.under_way for queue in self.delivery._queues.values())
        assert all(row.settled for row in self.latest.values()), "lost"
        found = await self.store.history(count=10**6)
        assert {row.id: row for row in found}.items() <= self.latest.items()
        told = defaultdict(list)
        for row in self.latest.values():
            told[_episode(row)].append(row)
        for (receiver, labels, began), rows in told.items():
            ear, dropped = self.ears[receiver], any(row.dropped_at for row in rows)
            if labels in ear.excused or dropped:
                continue
            over = any(row.kind is RESOLVED for row in rows)
            stands = None if any(row.overtaken_at for row in rows) else "over" if over else "fires"
            assert ear.stands.get((labels, began)) == stands, "its receiver believes something else"
        await self._crash()
        assert not any(queue.under_way or queue.pending() for queue in self.delivery._queues.values())


def _name(row: Notification) -> str:
    return dict(row.alert.labels)["alertname"]


def _episode(row: Notification) -> tuple[str, Labels, datetime]:
    return row.receiver, row.alert.labels, row.alert.starts_at


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

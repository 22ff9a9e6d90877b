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
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from receivers import MovedClock, notification
from samples import account, batch_key, observation, status

from monitor import evaluate, notices, notify
from monitor.alerts import Policy, Rule
from monitor.decisions import Voice, decide_account, decide_batch
from monitor.delivery import Delivery, Settings
from monitor.metrics import Instruments
from monitor.model import (
    AlertName,
    Entry,
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

EXAMPLES = int(os.environ.get("OUTBOX_EXAMPLES", "20"))
pytestmark = pytest.mark.timeout(60 if EXAMPLES <= 60 else 0)

FIRING, RESOLVED, REMINDER = MessageKind.FIRING, MessageKind.RESOLVED, MessageKind.REMINDER
NAMES = ("crm", "chat")
GROUP_BY = {"crm": ("account", "alertname"), "chat": ()}
BATCHES = tuple(batch_key(number) for number in (1, 2, 3))
PACING = Pacing(group_wait=timedelta(seconds=30), give_up_after=timedelta(hours=6))
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


def _error(reason: SendFailure, status: int | None = None, **more) -> partial[SendError]:
    """One for each time that it is raised: an exception keeps everything that it has passed through."""
    return partial(SendError, reason, f"answered {status or reason}", status=status, **more)


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
moods = st.just("ok") | answers
often = st.sampled_from([True, True, True, False])


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

    def receive(self, message: Message) -> partial[SendError] | None:
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
            assert self.latest[row.id].dropped_at is None, "told after it was given up"
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
            raise error()


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
        self.news: list[Notification] = []  # of the latest step
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
        for message in change.messages:
            for name in message.settles:
                mutes = self._mutes_of(self.truth[name])
                assert not any(at <= self.clock() < until for at, until in mutes), "it is muted"
        for row in change.notifications:
            self.truth.setdefault(row.id, row)
            self.latest[row.id] = row
            self.news.append(row)
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
        if queue is None:
            return None
        ends = {_episode(row): row for row in queue.pending() if row.kind is RESOLVED}
        too_old = [
            row.id
            for row in queue.pending()
            if name in self.configured
            and row.attempts
            and row.held_until is None
            and self._old(row)
            and self._old(ends.get(_episode(row), row))
        ]
        wait = await self.delivery._turns.take(queue)
        assert all(self.latest[name].settled for name in too_old), "tried for a day and not given up"
        assert wait is not None or not queue.pending(), "it waits for nothing, and something waits for it"
        return wait

    def _old(self, row: Notification) -> bool:
        return self.clock() - row.created_at >= PACING.give_up_after

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

    @rule(
        seconds=st.sampled_from([1, 10, 31, 70, 301, 400, 1900, 3700, 7 * 3600]),
        turns=often,
    )
    def time_passes(self, seconds, turns) -> None:
        self.clock.move(seconds=seconds)
        if turns:
            self.run(self._all_turn())

    @rule(seconds=st.sampled_from([31, 70, 301, 1900]), times=st.integers(2, 4))
    def workers_look(self, seconds, times) -> None:
        """Time passes as workers see it: look by look."""
        for _ in range(times):
            self.time_passes(seconds, turns=True)

    # The world

    @rule(
        keys=st.sets(st.sampled_from(BATCHES), min_size=1),
        states=st.lists(
            st.sampled_from([State.STALLED, State.STALLED, State.RUNNING, State.OVERDUE, State.INCOMPLETE]),
            min_size=1,
            max_size=3,
        ),
        crash=st.sampled_from([None, None, None, None, 0, 1]),
        wait=st.sampled_from([0, 0, 10, 31, 31, 400]),
    )
    def batches_move(self, keys, states, crash, wait) -> None:
        for state in states:
            for key in sorted(keys):
                self._observe(key, state, crash)
            if wait:
                self.time_passes(wait, turns=True)

    @rule(
        key=st.sampled_from(BATCHES), overdue=st.booleans(), wait=st.sampled_from([31, 70, 301]), ends=often
    )
    def a_batch_stalls(self, key, overdue, wait, ends) -> None:
        self._observe(key, State.STALLED, None)
        self.time_passes(wait, turns=True)
        if overdue:
            self._observe(key, State.OVERDUE, None)
        if ends:
            self._observe(key, State.RUNNING, None)

    def _observe(self, key, state, crash) -> None:
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

    @rule(
        name=st.sampled_from(NAMES),
        script=st.lists(moods, max_size=4),
        otherwise=moods,
        deaf_to=st.sampled_from([None, None, *BATCHES]),
    )
    def receiver_behaves(self, name, script, otherwise, deaf_to) -> None:
        self.ears[name].script = deque(script)
        self.ears[name].otherwise = otherwise
        self.ears[name].poisonous = {deaf_to.batch_id} if deaf_to else set()

    @rule(
        names=st.sets(st.sampled_from(NAMES), min_size=1),
        answer=answers,
        hours=st.sampled_from([0.1, 5.9, 6, 6.1]),
        ends=st.booleans(),
    )
    def outage(self, names, answer, hours, ends) -> None:
        """A long one; at its end the first are given up, and what comes then is not."""
        before = {name: self.ears[name].otherwise for name in names}
        for name in names:
            self.ears[name].otherwise = answer
        self.time_passes(31, turns=True)
        self.time_passes(hours * 3600, turns=True)
        if ends:
            for name in names:
                self.ears[name].otherwise = before[name]

    @rule(keys=st.sets(st.sampled_from(BATCHES), min_size=1), minutes=st.sampled_from([0, 2, 120, 120]))
    def mute(self, keys, minutes) -> None:
        for key in sorted(keys):
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

    @rule(disk_fails=st.sampled_from([False, False, True]))
    def restart(self, disk_fails) -> None:
        """Or the disk fails: a restart then would forget."""
        self.disk_fails = disk_fails
        if not disk_fails:
            self.run(self.store.prune())  # as is done now and then: it writes what could not be written
            self.run(self._crash())

    # What must hold

    @invariant()
    def the_record_is_true(self) -> None:
        self.failed = True  # until it is found that it is
        told = {_episode(row) for row in self.news}
        told_of = defaultdict(list)
        for row in self.latest.values() if told else ():
            if _episode(row) in told:
                told_of[_episode(row)].append(row)
        for row in self.news:
            if row.delivered_at is not None:
                assert row.id in self.ears[row.receiver].accepted[row.message_id].settles
            elif row.dropped_at is not None:
                self._is_old_and_the_other_hears_of_it(row)
            elif row.overtaken_at is not None and row.alert.labels not in self.ears[row.receiver].excused:
                self._had_nothing_left_to_tell(row, told_of[_episode(row)])
        self.news.clear()
        self.failed = False

    def _is_old_and_the_other_hears_of_it(self, dropped: Notification) -> None:
        assert dropped.dropped_at - dropped.created_at >= PACING.give_up_after
        if _name(dropped) != notices.DROPPED:
            heard = {
                row.receiver
                for row in self.latest.values()
                if _name(row) == notices.DROPPED and row.created_at == dropped.dropped_at
            }
            assert heard | {dropped.receiver} >= set(self.listeners[dropped.dropped_at])

    def _had_nothing_left_to_tell(self, row: Notification, episode: list[Notification]) -> None:
        stands = self.ears[row.receiver].stands
        assert (row.alert.labels, row.alert.starts_at) not in stands, "it had heard of the beginning"
        [end] = [one for one in episode if one.kind is RESOLVED]
        others = [one for one in episode if one is not end]
        if row.overtaken == "its beginning was never told":
            assert row.id == end.id
            assert all(one.dropped_at or one.overtaken_at for one in others)
        elif row.overtaken.startswith("superseded"):
            assert end.superseded_by is not None
        else:
            assert row.overtaken == "it was over before its mute was"
            assert self._held(others[0], end)

    def _mutes_of(self, row: Notification) -> list[list[datetime]]:
        """From when until when its batch was muted."""
        held: list[list[datetime]] = []
        for at, until in self.mutes[dict(row.alert.labels).get("batch_id")]:
            if held and held[-1][1] > at:
                held[-1][1] = max(until, at)
            elif until > at:
                held.append([at, until])
        return held

    def _held(self, first: Notification, end: Notification) -> bool:
        """Whether a mute held the first before it was due, and until its end had come."""
        return any(
            at <= first.created_at + PACING.group_wait and until >= end.created_at
            for at, until in self._mutes_of(first)
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


# One turn of a worker, step by step


@dataclass(eq=False)
class Scripted:
    """A channel that raises what it is told to, and does something first."""

    errors: list = field(default_factory=list)
    sent: list[list[str]] = field(default_factory=list)  # of each message, the batches
    meanwhile: object = None
    group_by: tuple[str, ...] = ("account", "alertname", "batch_id")

    async def send(self, wire, message: Message) -> None:
        self.sent.append([dict(entry.alert.labels).get("batch_id") for entry in message.entries])
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error()


@pytest.fixture
async def desk():
    """A delivery to one receiver, in memory; `turn` takes one turn."""
    clock, channel = MovedClock(), Scripted()
    memory = Store(None, clock=clock)
    await memory.open()
    instruments = Instruments(endpoints=(), send_failures=notify.FAILURES, now=clock())
    delivery = Delivery(memory, clock=clock, instruments=instruments, jitter=lambda top: top)
    delivery._turns.session = SimpleNamespace()
    delivery._employ = lambda queue: None
    delivery.set_receivers({"crm": Settings(channel, pacing=replace(PACING, group_wait=timedelta(0)))})
    queue = delivery._queues["crm"]

    async def say(*rows) -> None:
        await memory.commit(Change(notifications=rows))
        delivery.enqueue(rows)

    yield SimpleNamespace(
        clock=clock,
        channel=channel,
        delivery=delivery,
        queue=queue,
        say=say,
        turn=lambda: delivery._turns.take(queue),
    )
    await memory.close()


async def test_a_mute_that_comes_while_a_message_is_sent_holds_what_would_be_the_next(desk):
    """Nothing waits for the mute: it comes while the worker is busy with a receiver that takes its time."""
    desk.channel.meanwhile = lambda: desk.delivery.mute(Mute("b2", desk.clock() + timedelta(hours=1)))
    await desk.say(*(notification(number, batch_id=f"b{number}") for number in (1, 2, 3)))
    assert await desk.turn() == timedelta(hours=1)
    assert desk.channel.sent == [["b1"], ["b3"]]


async def test_what_may_have_arrived_is_sent_again_also_when_nothing_else_waits(desk):
    broken, no_answer = ANSWERS["busy"][1], ANSWERS["is lost"][1]
    desk.channel.errors = [broken, None, no_answer]
    await desk.say(notification(1), notification(2, batch_id="b2"))
    await desk.turn()
    desk.clock.move(seconds=1)
    assert await desk.turn() == timedelta(seconds=2)
    desk.clock.move(seconds=2)
    assert await desk.turn() is None
    assert desk.channel.sent == [["b1"], ["b2"], ["b1"], ["b1"]]


async def test_an_end_is_kept_while_it_is_not_known_whether_its_beginning_arrived(desk):
    broken, no_answer = ANSWERS["busy"][1], ANSWERS["is lost"][1]
    desk.channel.errors = [broken, None, no_answer]
    await desk.say(notification(1), notification(2, batch_id="b2"))
    await desk.turn()
    desk.clock.move(seconds=1)
    await desk.turn()
    await desk.say(notification(3, kind=RESOLVED, created_at=desk.clock()))
    await desk.turn()
    assert desk.queue.rows.keys() == {"id-1", "id-2", "id-3"}
    desk.clock.move(seconds=2)
    await desk.turn()
    assert desk.channel.sent == [["b1"], ["b2"], ["b1"], ["b1"], ["b1"]]


async def test_what_is_given_up_is_not_sent_again(desk):
    desk.channel.errors = [ANSWERS["is lost"][1]]
    await desk.say(notification(1))
    await desk.turn()
    desk.clock.now += PACING.give_up_after
    assert await desk.turn() is None
    assert desk.channel.sent == [["b1"]]
    assert not desk.queue.under_way


async def test_what_was_about_to_be_sent_is_not_settled_by_a_mute(desk):
    """Killed before it was known whether it arrived; then muted, before it would have been due."""
    began, now = notification(1), desk.clock()
    message = Message("m-1", "crm", now, (), (Entry(FIRING, began.alert, (began.id,)),))
    desk.queue.under_way[message.id] = message
    await desk.say(began)
    await desk.delivery.mute(Mute("b1", now + timedelta(hours=1)))
    await desk.say(notification(2, kind=RESOLVED, created_at=now + timedelta(minutes=1)))
    assert await desk.turn() == timedelta(hours=1)
    assert desk.channel.sent == [["b1"]]
    assert desk.queue.rows.keys() == {"id-1", "id-2"}


async def test_what_a_mute_outlives_is_settled_on_disk_too(desk):
    now = desk.clock()
    await desk.delivery.mute(Mute("b1", now + timedelta(hours=1)))
    await desk.say(notification(1), notification(2, kind=RESOLVED, created_at=now))
    assert await desk.turn() is None
    settled = await desk.delivery._store.history(count=9)
    assert {row.overtaken for row in settled} == {"it was over before its mute was"}
    assert desk.channel.sent == []

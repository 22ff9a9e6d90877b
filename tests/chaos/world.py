"""One round: campaigns, receivers and a daemon that is killed again and again, and at last left in peace."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import monitor
from chaos.campaigns import API_KEY, CONFIGURED, Ultravox
from chaos.daemon import Plan, Point
from chaos.receivers import Receiver
from chaos.truth import Life, Record, expected
from chaos.verdict import Verdict, judge
from monitor.clock import utc_now

NOT_ANSWERED = "request read, not answered"
"""The point of which the receivers know, and the daemon cannot."""

AT_RANDOM = "at random"
POINTS = (*(point.value for point in Point), NOT_ANSWERED)
WEBHOOKS = {"chat": "1s", "crm": "2s", "pager": "700ms"}  # and their patience
ALERTMANAGER = "oncall"
WANTS = {"pager": ("BatchStalled", "BatchEndedIncomplete")}  # the others: everything
GROUP_WAIT = "1s"

NOT_REACHED = 5.0  # seconds after which a daemon that does not pass its point is killed all the same
SETTLED_WITHIN = 60.0  # seconds that the end of a round may take
QUIET = 3.0  # seconds in which nothing more may be said


def deck(chance: random.Random) -> Iterator[str]:
    """Kills for ever: each point as often as the others, and some at random."""
    while True:
        cards = [*POINTS, AT_RANDOM, AT_RANDOM]
        chance.shuffle(cards)
        yield from cards


@dataclass
class Round:
    """What came of one round."""

    seed: str
    kills: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    wrong: list[str] = field(default_factory=list)
    disk_trouble: bool = False


@dataclass
class World:
    """Everything there is in a round; `play` it once."""

    folder: Path
    seed: str
    cards: Iterator[str]

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.ultravox = Ultravox(random.Random(f"{self.seed}/campaigns"))
        self.receivers = [
            Receiver(name, f"/{name}", random.Random(f"{self.seed}/{name}"), self._taken) for name in WEBHOOKS
        ]
        self.receivers.append(
            Receiver(ALERTMANAGER, "/api/v2/alerts", random.Random(f"{self.seed}/am"), self._taken)
        )
        self.record = Record()
        self.lives: list[Life] = []
        self.round = Round(self.seed)
        self._process: asyncio.subprocess.Process | None = None
        self._to_take: int | None = None  # how many requests the receivers take until they kill the daemon

    async def play(self, kills: int) -> Round:
        await self.ultravox.start()
        for receiver in self.receivers:
            await receiver.start()
        self._configure()
        try:
            for _ in range(kills):
                await self._live_and_die()
            await self._calm_down()
        finally:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            for receiver in self.receivers:
                await receiver.stop()
            await self.ultravox.stop()
        self._look_at_log()
        self._write_down()
        return self.round

    # Processes

    def _configure(self) -> None:
        prompt = {"group_wait": GROUP_WAIT, "max_messages_per_minute": 6000}
        receivers: list[dict[str, Any]] = []
        for one in self.receivers:
            if one.name == ALERTMANAGER:
                channel = {"alertmanager": {"urls": [one.url], "timeout": "1s"}}
            else:
                channel = {"webhook": {"url": one.url + one.path, "timeout": WEBHOOKS[one.name]}, **prompt}
            wants = {"only": list(WANTS[one.name])} if one.name in WANTS else {}
            receivers.append({"name": one.name, **channel, **wants})
        alert = {"repeat_every": "4s"}
        account = {
            "name": "main",
            "api_key": "${KEY}",
            "base_url": self.ultravox.url,
            "max_requests_per_second": 200,
            "batches": [
                {"agent_id": one.agent_id, "batch_id": one.batch_id, "name": f"configured {number}"}
                for number, one in enumerate(self.ultravox.configured[:CONFIGURED])
            ],
            "discover": {"interval": "1s"},
        }
        config = {
            "accounts": [account],
            "poll": {"interval": "1s", "timeout": "1s", "account_interval": "1s", "outcomes_interval": "3s"},
            "alerts": {
                "stalled": {"after": "2s", **alert},
                "overdue": {"for": "1s", **alert},
                "paused_too_long": {"for": "2s", **alert},
                "unreachable": {"for": "1s", **alert},
                "window_at_risk": {"for": "1s", "keep_firing_for": "1s"},
                "account_unreachable": {"for": "1s", **alert},
                "account_key_rejected": {"for": "1s", **alert},
            },
            "receivers": receivers,
            "storage": {"path": str(self._state)},
            "web": {"listen_address": "127.0.0.1:0"},
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))

    @property
    def _state(self) -> Path:
        return self.folder / "monitor.db"

    async def _start(self, plan: Plan) -> asyncio.subprocess.Process:
        here = Path(__file__)
        command = (sys.executable, str(here.with_name("daemon.py")), "run", "--config.file", "config.yaml")
        own = {"KEY": API_KEY, "CHAOS": plan.text(), "PYTHONPATH": str(Path(monitor.__file__).parents[1])}
        with (self.folder / "daemon.log").open("ab") as log:
            log.write(f"==== {utc_now()} {plan.text()}\n".encode())
            log.flush()
            self.ultravox.asked_at = None
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, env=os.environ | own
            )
        return self._process

    def _taken(self) -> None:
        if self._to_take is None or self._process is None or self._process.returncode is not None:
            return
        self._to_take -= 1
        if self._to_take == 0:
            self._process.kill()

    async def _live_and_die(self) -> None:
        point = next(self.cards)
        plan, seconds = self._plan(point)
        if point == NOT_ANSWERED:
            self._to_take = plan.passing
        began = utc_now()
        process = await self._start(plan)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), seconds)
        itself = process.returncode is not None
        if not itself:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        self._to_take = None
        if process.returncode != -signal.SIGKILL:
            self.round.wrong.append(
                f"the daemon ended by itself: {process.returncode}, see {self.folder}/daemon.log"
            )
        how = point if itself else AT_RANDOM
        self.round.kills[how] += 1
        self.lives.append(Life(began, self.ultravox.asked_at, utc_now(), how, calm=plan.disk is None))
        self.record.read(self._state)

    def _plan(self, point: str) -> tuple[Plan, float]:
        """What happens to the next process, and how long it lives at most."""
        chance = self.chance
        if point != AT_RANDOM:
            passing = chance.choice([1, 1, 1, 2, 3])
            if chance.random() < 0.15:  # no commit waits longer than it may
                return Plan(point, passing, "slow", 0, 60, chance.uniform(0.1, 0.7)), NOT_REACHED
            return Plan(point, passing), NOT_REACHED
        match chance.random():
            case luck if luck < 0.2:
                return Plan(), chance.uniform(0.05, 1.2)  # while it starts
            case luck if luck < 0.6:
                return Plan(), chance.uniform(1.2, 5)
            case luck if luck < 0.8:
                return Plan(), chance.uniform(9, 13)
        # No kill while what was said is not on the disk: that is lost, and the log says so.
        self.round.disk_trouble = True
        since = chance.uniform(2, 3)
        to = since + chance.uniform(2, 4)
        what = chance.choice(["slow", "fails"])
        return Plan(None, 1, what, since, to, chance.uniform(2.2, 3)), to + 6

    # The end

    async def _calm_down(self) -> None:
        """Everything is well from now on: wait until all is told, and judge."""
        for receiver in self.receivers:
            await receiver.clear_up()
        began = utc_now()
        await self._start(Plan())
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLED_WITHIN
        while self.ultravox.asked_at is None and loop.time() < until:  # noqa: ASYNC110 - a test may look again and again
            await asyncio.sleep(0.05)
        self.ultravox.calm.set()
        await self.ultravox.all_ended()
        until, since = loop.time() + SETTLED_WITHIN, self.ultravox.asked_at
        while loop.time() < until:
            await asyncio.sleep(0.3)
            with suppress(sqlite3.OperationalError):
                self.record.look(self._state)
            if not (self.record.pending or self.record.under_way or self.record.firing):
                life = Life(began, since, utc_now(), "calm")
                if not self._judged([*self.lives, life]).wrong:
                    break
        await asyncio.sleep(QUIET)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self.lives.append(Life(began, since, utc_now(), "calm"))
        self.record.read(self._state)
        self.round.verdict = self._judged(self.lives)
        self.round.wrong += self.round.verdict.wrong + self.record.wrong
        self.round.wrong += [f"is pending at the end: {row}" for row in self.record.pending]
        self.round.wrong += [f"was dropped: {row}" for row in self.record.rows.values() if row.dropped]
        self.round.wrong += [f"fires at the end: {name}" for name in self.record.firing]
        if self.record.under_way:
            self.round.wrong.append(f"{self.record.under_way} messages under way at the end")
        if not self.round.disk_trouble:
            self.round.wrong += [f"told under another key: {one}" for one in self.round.verdict.other_key]

    def _judged(self, lives: list[Life]) -> Verdict:
        ends, stalls = expected(
            list(self.ultravox.campaigns.values()), self.ultravox.troubles, lives, lives[-1].until
        )
        verdict, rows = Verdict(), list(self.record.rows.values())
        for one in self.receivers:
            state = one.name == ALERTMANAGER
            wants = WANTS.get(one.name)
            verdict.add(judge(one.name, one.posts, rows, ends, stalls, lives, state=state, wants=wants))
        return verdict

    def _write_down(self) -> None:
        """For those who look why: what every receiver took, and how each process died."""
        lines = [f"{one.began} {one.asked_at} {one.until} {one.how} calm={one.calm}" for one in self.lives]
        for receiver in self.receivers:
            lines += [
                f"{one.at} {receiver.name} {one.key} {one.mood} {one.body.decode()}" for one in receiver.posts
            ]
        (self.folder / "taken.txt").write_text("\n".join(sorted(lines)))

    def _look_at_log(self) -> None:
        text = (self.folder / "daemon.log").read_text(errors="replace")
        if "Traceback" in text:
            self.round.wrong.append(f"an error of the monitor's own, see {self.folder}/daemon.log")


def table(rounds: list[Round]) -> str:
    """What came of all of them."""
    kills: Counter[str] = sum((one.kills for one in rounds), Counter())
    total = Verdict()
    for one in rounds:
        total.add(one.verdict)
    troubled = [one for one in rounds if one.disk_trouble]
    calm = sum(len(one.verdict.other_key) for one in rounds if not one.disk_trouble)
    lines = [
        ("rounds", f"{len(rounds)}, of them with disk trouble: {len(troubled)}"),
        ("kills", f"{sum(kills.values())}"),
        *((f"  {name}", f"{kills[name]}") for name in (*POINTS, AT_RANDOM)),
        ("requests taken", f"{total.taken}"),
        ("notifications due", f"{total.due}"),
        ("  delivered", f"{total.delivered}"),
        ("  superseded before they were told", f"{total.superseded}"),
        ("  lost", f"{len(total.lost)}"),
        ("out of order", f"{len(total.out_of_order)}"),
        ("untrue", f"{len(total.untrue)}"),
        ("left open", f"{len(total.left_open)}"),
        ("taken again under the same key", f"{total.same_key}"),
        (
            "taken again under another key",
            f"{calm}, and {len(total.other_key) - calm} in rounds with disk trouble",
        ),
        ("delay after receiver and daemon were well", _delays(sorted(total.delays))),
    ]
    return "\n".join(f"{name:<42} {value}" for name, value in lines)


def _delays(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    half, most = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    return f"median {half:.1f} s, 99 % {most:.1f} s, worst {seconds[-1]:.1f} s"

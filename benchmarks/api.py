"""An API that costs next to nothing: raw asyncio, answers put together from ready bytes. So it is the client that is measured.

Run as `python -m benchmarks.api --accounts 20 --agents 1 --batches 500`; prints its port and serves until it is
killed. Whose agents are listed is told by the key, everything else by the ids. `/bench` answers what
was asked since it was last asked to `/bench?reset`, so that nobody need scrape the one that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate

from monitor.clock import Clock, utc_now

DAY = 86400
PAGE = 100
PACES = 16
"""So many different paces there are."""

TOTAL = 1_000_000
"""Calls of each batch: so many that none ends by itself."""


@dataclass(frozen=True)
class Size:
    """How much there is to watch."""

    accounts: int
    agents: int  # of each account
    batches: int  # of each agent

    @property
    def count(self) -> int:
        """Batches."""
        return self.accounts * self.agents * self.batches


def account_name(number: int) -> str:
    """What the configuration calls an account."""
    return f"account-{number:02d}"


def api_key(account: int) -> str:
    """The key of an account, by which its agents are told from others'."""
    return f"{account:08d}." + "k" * 32


def agent_id(number: int) -> str:
    """The id of one of as many agents as one likes, counted over all accounts."""
    return f"7f6a0000-0000-4000-8000-{number:012d}"


def batch_id(number: int) -> str:
    """The id of one of as many batches as one likes, counted over all agents."""
    return f"3c900000-0000-4000-8000-{number:012d}"


def seconds_per_call(number: int) -> int:
    """How often a call of this batch is made: most move from one look to the next, half a minute later."""
    return 10 + 2 * (number % PACES)


class World:
    """What there is, what was asked, and how it is answered.

    `created`: of all batches, Unix seconds. `still`: no call is made. `hang_every`: one of so many polls, by
    chance, is never answered; 0: all are.
    """

    def __init__(
        self, size: Size, created: float, *, clock: Clock, still: bool = False, hang_every: int = 0
    ) -> None:
        self.size = size
        self.created = created
        self._clock = clock
        self._still = still
        self._hang_every = hang_every
        created = datetime.fromtimestamp(self.created, UTC).isoformat().replace("+00:00", "Z")
        count = self.size.count
        head = '{"batchId":"%s","created":"%s","totalCount":%d,"completedCount":'
        self._heads = [(head % (batch_id(number), created, TOTAL)).encode() for number in range(count)]
        tail = (
            ',"endedAt":null,"windowStart":null,"windowEnd":"2099-11-23T17:00:00Z","paused":%s,"throttle":null,'
            '"webhookUrl":"https://customer.example/hooks/ultravox","webhookSecret":"whsec-0123456789abcdef"}'
        )
        self._running, self._paused = (tail % "false").encode(), (tail % "true").encode()
        self._stopped: dict[int, int] = {}  # paused batches, and the calls that they had made
        # Not each so many-th: lists of five pages that are read one after the other would always hang on the last.
        self._chance = random.Random(1)
        self._date = (0, b"")
        self.reset()

    def reset(self) -> None:
        """Count from here on: a gap that began before, as after a start, is none."""
        self._asked_at = [0.0] * self.size.count
        self._counts: Counter[str] = Counter()
        self._gaps: Counter[int] = Counter()
        self._since, self._cpu = time.monotonic(), time.process_time()

    def answer(self, head: bytes) -> bytes | None:
        """The whole answer to a request; None: it is never answered."""
        target = head.split(b" ", 2)[1].decode()
        path, _, query = target.partition("?")
        parts = path.split("/")
        match parts[1:]:
            case ["api", "agents", agent, "scheduled_batches", batch]:
                number = int(batch[-12:])
                if self._hangs("get_batch", range(number, number + 1)):
                    return None
                body = self._batch(number, self._now())
            case ["api", "agents", agent, "scheduled_batches"]:
                return self._list(int(agent[-12:]), int(_field(query, "cursor") or 0))
            case ["api", "agents", _, "scheduled_batches", batch, "scheduled_calls"]:
                self._counts["scheduled_calls"] += 1
                made = self._made(int(batch[-12:]), self._now()) if "status=SUCCESS" in query else 0
                body = b'{"results":[],"next":null,"previous":null,"total":%d}' % made
            case ["api", "agents"]:
                body = self._agents(head, int(_field(query, "cursor") or 0))
            case ["api", "agents", agent]:
                self._counts["get_agent"] += 1
                body = json.dumps({"agentId": agent, "name": f"agent {int(agent[-12:])}"}).encode()
            case ["api", "accounts", "me"]:
                self._counts["accounts_me"] += 1
                body = b'{"name":"bench","activeCalls":1,"allowedConcurrentCalls":null}'
            case ["api", "call_throttles"]:
                body = b'{"results":[],"next":null,"previous":null,"total":0}'
            case ["bench"]:
                body = self._told(query)
            case _:
                return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        return self._whole(body)

    def _now(self) -> float:
        return self._clock().timestamp()

    def _whole(self, body: bytes) -> bytes:
        second = int(self._now())
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (
                self._date[1],
                len(body),
                body,
            )
        )

    def _made(self, number: int, now: float) -> int:
        if number in self._stopped:
            return self._stopped[number]
        at = self.created + DAY if self._still else now
        return int((at - self.created) / seconds_per_call(number))

    def _batch(self, number: int, now: float) -> bytes:
        tail = self._paused if number in self._stopped else self._running
        return b"%b%d%b" % (self._heads[number], self._made(number, now), tail)

    def _list(self, agent: int, cursor: int) -> bytes | None:
        size = self.size.batches
        first = agent * size + cursor
        numbers = range(first, min(first + PAGE, (agent + 1) * size))
        if self._hangs("list_batches", numbers):
            return None
        now, following = self._now(), b"null"
        if cursor + PAGE < size:
            address = f"/api/agents/{agent_id(agent)}/scheduled_batches?cursor={cursor + PAGE}"
            following = f'"http://api.example{address}"'.encode()
        entries = b",".join([self._batch(number, now) for number in numbers])
        body = b'{"results":[%b],"next":%b,"previous":null,"total":%d}' % (entries, following, size)
        return self._whole(body)

    def _agents(self, head: bytes, cursor: int) -> bytes:
        self._counts["list_agents"] += 1
        at = head.index(b"X-API-Key: ") + len(b"X-API-Key: ")
        size = self.size.agents
        first = int(head[at : at + 8]) * size
        numbers = range(first + cursor, min(first + cursor + PAGE, first + size))
        following = f"http://api.example/api/agents?cursor={cursor + PAGE}" if cursor + PAGE < size else None
        results = [{"agentId": agent_id(number), "name": f"agent {number}"} for number in numbers]
        return json.dumps({"results": results, "next": following, "previous": None, "total": size}).encode()

    def _hangs(self, endpoint: str, numbers: range) -> bool:
        """Count the request and what it shows. Never hangs: what shows a batch that was paused."""
        now = time.monotonic()
        self._counts[endpoint] += 1
        self._counts["batches"] += len(numbers)
        for number in numbers:
            before, self._asked_at[number] = self._asked_at[number], now
            if before:
                self._gaps[round((now - before) * 100)] += 1
        every = self._hang_every
        if not every or self._chance.random() >= 1 / every or any(n in self._stopped for n in numbers):
            return False
        self._counts["hung"] += 1
        return True

    def _told(self, query: str) -> bytes:
        if number := _field(query, "pause"):
            self._stopped[int(number)] = self._made(int(number), self._now())
        found = {
            "counts": dict(self._counts),
            "gaps": dict(
                self._gaps
            ),  # between two questions about the same batch: how many of each, in 10 ms
            "seconds": time.monotonic() - self._since,
            "cpu": time.process_time() - self._cpu,
            "paused_at": self._now(),
        }
        if query == "reset":
            self.reset()
        return json.dumps(found).encode()


def _field(query: str, name: str) -> str | None:
    return next((value for one in query.split("&") if (value := one.removeprefix(f"{name}=")) != one), None)


class _Connection(asyncio.Protocol):
    def __init__(self, world: World) -> None:
        self._world = world
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - typeshed says BaseTransport, whatever the kind of protocol
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.endswith(b"\r\n\r\n"):
            return
        head, self._buffer = self._buffer, b""
        answer = self._world.answer(head)
        if answer is not None:
            self._transport.write(answer)


async def serve(world: World) -> tuple[asyncio.Server, int]:
    """On a port of loopback that was free: until it is closed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(world), "127.0.0.1", 0, backlog=1024)
    return server, server.sockets[0].getsockname()[1]


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description=__doc__)
    parser.add_argument("--accounts", type=int, default=1)
    parser.add_argument("--agents", type=int, default=1, help="of each account")
    parser.add_argument("--batches", type=int, default=1000, help="of each agent")
    parser.add_argument(
        "--created",
        type=float,
        default=utc_now().timestamp() - DAY,
        help="Unix seconds; a day ago by default",
    )
    parser.add_argument("--still", action="store_true", help="no call is made")
    parser.add_argument("--hang-every", type=int, default=0, help="one of so many polls is never answered")
    asked = parser.parse_args()
    size = Size(asked.accounts, asked.agents, asked.batches)
    world = World(size, asked.created, clock=utc_now, still=asked.still, hang_every=asked.hang_every)
    server, port = await serve(world)
    print(port, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

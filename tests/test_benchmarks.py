"""The benchmarks measure what they say: the API keeps to Ultravox' shapes, the past fits it, the table tells no lies."""

from __future__ import annotations

import gzip
import json
from contextlib import aclosing
from datetime import timedelta

import pytest
from pydantic import SecretStr

from benchmarks.api import DAY, PACES, Size, World, account_name, agent_id, api_key, batch_id, serve
from benchmarks.internals import Rendering, write_past
from benchmarks.polls import late
from benchmarks.report import Row, limit, table
from monitor.model import BatchKey
from monitor.store import Store
from monitor.ultravox import ApiSettings, Client


class Asked:
    """The API on a socket, and the monitor's own client for each of its accounts."""

    def __init__(self, clock) -> None:
        self.clock = clock
        self.open = []

    async def client(self, size: Size, account: int = 0, **options) -> Client:
        world = World(size, self.clock().timestamp() - DAY, clock=self.clock, **options)
        server, port = await serve(world)
        settings = ApiSettings(
            account_name(account),
            SecretStr(api_key(account)),
            f"http://127.0.0.1:{port}",
            timedelta(seconds=5),
            1e6,
        )
        client = Client(settings, clock=self.clock)
        self.open.append((server, client))
        return client


@pytest.fixture
async def asked(clock):
    made = Asked(clock)
    yield made
    for server, client in made.open:
        await client.close()
        server.close()


async def seen(client: Client, agent: int):
    async with aclosing(client.list_batches(agent_id(agent))) as pages:
        return [page async for page in pages]


async def test_a_list_is_read_to_its_end_and_shows_each_batch_once(asked):
    pages = await seen(await asked.client(Size(1, 2, 250)), 1)
    assert [(page.entries, page.total, page.last) for page in pages] == [
        (100, 250, False),
        (100, 250, False),
        (50, 250, True),
    ]
    assert [one for page in pages for one in page.batches] == [batch_id(number) for number in range(250, 500)]


async def test_a_key_shows_the_agents_of_its_account_alone(asked):
    client = await asked.client(Size(3, 120, 1), account=1)
    assert [one.agent_id for one in await client.list_agents()] == [
        agent_id(number) for number in range(120, 240)
    ]
    assert (await client.get_account()).allowed_concurrent_calls is None
    assert await client.get_throttles() == ()


@pytest.mark.parametrize("still", [False, True])
async def test_calls_are_made_as_time_goes_by(asked, clock, still):
    client, key = await asked.client(Size(1, 1, 100), still=still), BatchKey(agent_id(0), batch_id(7))
    before = await client.get_batch(key)
    clock.move(seconds=60)
    after = await client.get_batch(key)
    [page] = await seen(client, 0)
    assert (after.completed > before.completed) is not still
    assert page.batches[key.batch_id].completed == after.completed
    assert (await client.get_outcomes(key)).made == after.completed


def ask(world: World, path: str) -> bytes | None:
    return world.answer(f"GET {path} HTTP/1.1\r\nX-API-Key: {api_key(0)}\r\n\r\n".encode())


def body(answer: bytes | None):
    return json.loads((answer or b"").partition(b"\r\n\r\n")[2])


def get(world: World, number: int) -> bytes | None:
    return ask(world, f"/api/agents/{agent_id(0)}/scheduled_batches/{batch_id(number)}")


def test_one_of_so_many_polls_hangs_but_none_of_a_batch_that_was_paused(clock):
    world = World(Size(1, 1, 10), 0.0, clock=clock, hang_every=4)
    hung = [get(world, 3) is None for _ in range(400)]
    assert 70 <= sum(hung) <= 130
    assert len({sum(hung[place::4]) for place in range(4)}) > 1  # by chance, and not each fourth
    body(ask(world, "/bench?pause=3"))
    assert all(body(get(world, 3))["paused"] for _ in range(40))
    others = [get(world, 4) for _ in range(40)]
    assert 0 < others.count(None) < 40
    assert not any(body(answer)["paused"] for answer in others if answer is not None)
    assert body(ask(world, "/bench"))["counts"] == {
        "get_batch": 480,
        "batches": 480,
        "hung": sum(hung) + others.count(None),
    }


def test_what_was_asked_is_counted_from_the_reset_on(clock):
    world = World(Size(1, 1, 10), 0.0, clock=clock)
    ask(world, f"/api/agents/{agent_id(0)}/scheduled_batches?pageSize=100")
    assert body(ask(world, "/bench?reset"))["counts"] == {"list_batches": 1, "batches": 10}
    get(world, 1)
    get(world, 1)
    told = body(ask(world, "/bench"))
    assert told["counts"] == {"get_batch": 2, "batches": 2}
    assert sum(told["gaps"].values()) == 1  # and not since the page that showed it before


async def test_the_past_ends_where_the_api_goes_on(tmp_path, clock):
    size, created = Size(2, 1, PACES), clock().timestamp() - DAY
    await write_past(tmp_path / "monitor.db", created, size)
    store = Store(tmp_path / "monitor.db", clock=clock)
    records = {record.key: record for record in (await store.open()).batches}
    await store.close()
    world = World(size, created, clock=clock)
    assert len(records) == size.count
    for number in range(size.count):
        record = records[BatchKey(agent_id(number // PACES), batch_id(number))]
        assert record.account == account_name(number // PACES)
        calls = body(get(world, number))["completedCount"]
        assert calls - 3 <= record.progress.best_completed <= calls
    lengths = {len(record.progress.curve) for record in records.values()}
    assert len(lengths) == PACES  # they are thinned one after the other, not all in one poll
    assert min(lengths) >= 32


def test_what_is_compared_is_the_same_text():
    rendering = Rendering(Size(1, 1, 20))
    ours = gzip.decompress(b"".join(rendering.ours())).decode().splitlines()
    library = rendering.library(rendering.families()).decode().splitlines()
    of_batches = [line for line in library if line.startswith("ultravox_")]
    assert [line for line in ours if line.startswith("ultravox_")] == of_batches
    assert sum(line.startswith("ultravox_batch_info{") for line in of_batches) == 20
    rendering.move()
    moved = {line for line in ours if line.startswith("ultravox_batch_last_success_timestamp_seconds{")}
    assert len(moved) == 20
    assert moved.isdisjoint(gzip.decompress(b"".join(rendering.ours())).decode().splitlines())


@pytest.mark.parametrize(
    ("gaps", "share", "seconds"),
    [
        ({}, 0.99, 0.0),
        ({"3000": 99, "4250": 1}, 0.99, 0.0),
        ({"3000": 98, "4250": 2}, 0.99, 12.5),
        ({"2900": 10}, 0.99, 0.0),  # sooner is not late
        ({"3000": 1, "3100": 1, "900": 2}, 1.0, 1.0),
    ],
)
def test_lateness_is_what_is_beyond_the_interval(gaps, share, seconds):
    assert late(gaps, 30.0, share) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("row", "ratio", "verdict"),
    [
        (Row("s", "w", 160.0, "µs", "peer", 100.0, 1.6), 1.6, "reached"),
        (Row("s", "w", 161.0, "µs", "peer", 100.0, 1.6), 1.61, "MISSED"),
        (Row("s", "w", 161.0, "µs", "peer: not installed", None, 1.6), None, ""),
        (Row("s", "w", 161.0, "µs", "peer", 100.0), 1.61, ""),
        (limit("s", "w", 26.0, "ms", 25), 1.04, "MISSED"),
    ],
)
def test_a_row_says_whether_its_aim_was_reached(row, ratio, verdict):
    assert row.ratio == pytest.approx(ratio)
    assert row.verdict == verdict
    assert table([row]).endswith(verdict)
    assert row.against in table([row])

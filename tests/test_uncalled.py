"""Whom to call again: from a pretend Ultravox to the terminal, and nowhere else."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

import pytest
from rich.console import Console

from monitor import config, simulator, uncalled
from monitor.clock import utc_now
from monitor.model import CallStatus
from monitor.simulator import Fault, FaultKind
from monitor.ultravox import Call, UltravoxError

STORY = """
accounts:
  - name: other
    agents: [{name: a, batches: [{name: far, created: -2h, calls: 3, window: {end: -1h}, pace: 0/h}]}]
  - name: main
    agents:
      - {name: empty}
      - name: renewals
        batches:
          - name: over
            created: -3h
            calls: 120
            window: {start: -3h, end: -1h}
            pace: 50/h
            jitter: 0
            failing: {share: 0.2, error: "SIP 486 Busy Here"}
          - {name: running, created: -10m, calls: 250, pace: 60/h, jitter: 0, medium: twilio}
"""


@pytest.fixture
async def world():
    pretend = simulator.Simulator(simulator.load(STORY), clock=utc_now)
    await pretend.start()
    yield pretend
    await pretend.stop()


def batch_id(world, name):
    found = {
        batch.name: batch.batch_id
        for account in world.scenario.accounts
        for agent in account.agents
        for batch in agent.batches
    }
    return str(found[name])


def environ(world, account="main"):
    key = next(one.api_key for one in world.scenario.accounts if one.name == account)
    return {"ULTRAVOX_API_KEY": key, "ULTRAVOX_BASE_URL": world.base_url}


async def read(world, name, account="main"):
    settings = config.load_default(environ(world, account))
    return await uncalled.read(settings, batch_id(world, name), clock=utc_now)


async def test_what_was_not_made_and_what_failed_is_listed_and_nothing_else(world):
    calls = await read(world, "over")
    made = {status: [call for call in calls if call.status is status] for status in CallStatus}
    assert len(made[CallStatus.EXPIRED]) == 20
    assert 5 < len(made[CallStatus.ERROR]) < 40
    assert not made[CallStatus.SUCCESS] + made[CallStatus.PENDING] + made[CallStatus.FUTURE]
    assert len({call.destination for call in calls}) == len(calls)
    [first, *_] = made[CallStatus.EXPIRED]
    assert first.destination.startswith("sip:+1")
    assert first.metadata == (("customer", "customer-00100"),)
    assert first.error is None
    assert made[CallStatus.ERROR][0].error.startswith("SIP 486 Busy Here")


async def test_more_than_a_page_of_them_is_read_to_the_end(world):
    calls = await read(world, "running")
    assert len(calls) == 240
    assert {call.status for call in calls} == {CallStatus.FUTURE}
    assert calls[0].destination.startswith("+1")


async def test_a_batch_that_no_agent_of_the_account_has_is_said_to_be_unknown(world):
    with pytest.raises(uncalled.NotFoundError, match="no agent of default has a batch"):
        await read(world, "far")
    assert len(await read(world, "far", "other")) == 3


async def test_every_account_of_the_configuration_is_asked(world, tmp_path):
    path = tmp_path / "config.yaml"
    keys = {f"KEY_{one.name}": one.api_key for one in world.scenario.accounts}
    accounts = [
        f"{{name: {one.name}, api_key: '${{KEY_{one.name}}}', base_url: '{world.base_url}'}}"
        for one in world.scenario.accounts
    ]
    path.write_text(f"accounts: [{', '.join(accounts)}]", encoding="utf-8")
    found = await uncalled.read(config.load(path, keys), batch_id(world, "over").upper(), clock=utc_now)
    assert {call.status for call in found} == {CallStatus.EXPIRED, CallStatus.ERROR}


@pytest.mark.parametrize("named", [True, False])
async def test_another_account_s_rejected_key_stands_in_nobody_s_way(world, tmp_path, named):
    path = tmp_path / "config.yaml"
    keys = {f"KEY_{one.name}": one.api_key for one in world.scenario.accounts}
    agent = world.scenario.accounts[1].agents[1]
    batch = (
        f"batches: [{{agent_id: {agent.agent_id}, batch_id: {batch_id(world, 'over')}}}]," if named else ""
    )
    path.write_text(
        "accounts:\n"
        f"  - {{name: other, api_key: '${{KEY_other}}', base_url: '{world.base_url}'}}\n"
        f"  - {{name: main, {batch} api_key: '${{KEY_main}}', base_url: '{world.base_url}'}}\n",
        encoding="utf-8",
    )
    world.add_fault(Fault(kind=FaultKind.UNAUTHORIZED, account="other"))
    found = await uncalled.read(config.load(path, keys), batch_id(world, "over"), clock=utc_now)
    assert {call.status for call in found} == {CallStatus.EXPIRED, CallStatus.ERROR}
    assert (sum(seen.account == "other" for seen in world.requests) == 0) is named
    with pytest.raises(UltravoxError, match="account other: list_agents: the API key was rejected"):
        await uncalled.read(config.load(path, keys), "3c90c3cc-0d44-4b50-8888-8dd25736052a", clock=utc_now)


async def test_an_api_that_fails_is_no_empty_list(world):
    world.add_fault(Fault(kind=FaultKind.SERVER_ERROR, endpoint="scheduled_calls"))
    with pytest.raises(UltravoxError, match="the API is in trouble"):
        await read(world, "over")
    world.clear_faults()
    world.add_fault(Fault(kind=FaultKind.UNAUTHORIZED))
    with pytest.raises(UltravoxError, match="the API key was rejected"):
        await read(world, "over")


def call(**changes):
    values = {"status": CallStatus.ERROR, "error": None, "destination": "+12015550100", "metadata": ()}
    return Call(**(values | changes))


CALLS = (
    call(error="SIP 486", metadata=(("customer", "a,b"), ("list", "7"))),
    call(status=CallStatus.EXPIRED, destination=None, metadata=(("customer", "\x1b[31mred\x07"),)),
)


def test_as_csv_there_is_a_column_for_each_key_of_the_metadata():
    to = io.StringIO()
    uncalled.write_csv(CALLS, to)
    assert list(csv.reader(io.StringIO(to.getvalue()))) == [
        ["status", "destination", "error", "customer", "list"],
        ["ERROR", "+12015550100", "SIP 486", "a,b", "7"],
        ["EXPIRED", "", "", "�[31mred�", ""],
    ]


def test_a_terminal_is_shown_text_and_obeys_none_of_it():
    to = io.StringIO()
    uncalled.print_table(CALLS, Console(file=to, width=100, force_terminal=True))
    text = to.getvalue()
    assert "+12015550100" in text
    assert "customer=a,b, list=7" in text
    assert "\x1b[31mred" not in text
    assert "\x07" not in text


async def test_the_command_prints_the_list_and_counts_on_stderr(world):
    import asyncio

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "monitor", "uncalled", batch_id(world, "over"), "--csv"),
        env=environ(world),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0
    rows = list(csv.reader(io.StringIO(out.decode())))
    assert err.decode() == f"{len(rows) - 1} calls not made or failed\n"
    assert rows[0] == ["status", "destination", "error", "customer"]

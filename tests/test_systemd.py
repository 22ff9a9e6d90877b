"""What systemd is told, on a real socket: ready, reloading, stopping; and a watchdog that hunger wakes when nothing is polled."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from pathlib import Path

import pytest
from test_app import STORY, Daemon

from monitor import simulator
from monitor.clock import utc_now
from monitor.systemd import BEAT, Systemd
from monitor.web import ReloadRefusedError


class Manager:
    """The end of the socket that systemd holds."""

    def __init__(self, address):
        self.name = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self):
        """The messages since the last look, each as its lines."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages

    async def until(self, line):
        """All messages up to the one with this line."""
        heard = []
        async with asyncio.timeout(10):
            while not any(line in message for message in heard):
                data = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
                heard.append(data.decode().split("\n"))
        return heard

    def close(self):
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@{uuid.uuid4()}")
    yield made
    made.close()


def environment(manager, **more):
    return {"NOTIFY_SOCKET": manager.name, **more}


async def test_the_daemon_tells_its_whole_life(tmp_path, manager, monkeypatch):
    pretend = simulator.Simulator(simulator.load(STORY), clock=utc_now)
    await pretend.start()
    daemon = Daemon(tmp_path, pretend)
    daemon.write("one", "two")
    for name, value in environment(manager, WATCHDOG_USEC="20000000").items():
        monkeypatch.setenv(name, value)

    async with daemon.running():
        begun = manager.heard()
        await daemon.app.reload.run(asked_for=True)
        reloaded = manager.heard()
        daemon.path.write_text("nonsense")
        with pytest.raises(ReloadRefusedError):
            await daemon.app.reload.run(asked_for=True)
        refused = manager.heard()
    ended = manager.heard()
    await pretend.stop()

    assert ["READY=1"] in begun
    assert ["STATUS=watching 2 batches of 1 account", "WATCHDOG=1"] in begun + reloaded + refused
    for heard in (reloaded, refused):
        said = [message[0] for message in heard if message[0].partition("=")[0] != "STATUS"]
        assert said == ["RELOADING=1", "READY=1"]
    assert ended[-1][0] == "STOPPING=1"
    assert "NOTIFY_SOCKET" not in os.environ, "no child may speak for it"


async def test_the_watchdog_is_fed_while_jobs_are_run_and_no_longer(manager):
    jobs_run = True
    systemd = Systemd(environment(manager, WATCHDOG_USEC="2000"))
    beating = asyncio.create_task(systemd.beat(lambda: jobs_run, lambda: "fine"))

    fed = await manager.until("WATCHDOG=1")
    jobs_run = False
    manager.heard()
    hungry = await manager.until("STATUS=fine")
    beating.cancel()

    assert fed == [["STATUS=fine", "WATCHDOG=1"]]
    assert hungry == [["STATUS=fine"]]


@pytest.mark.parametrize(
    "given",
    [{}, {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}],
)
async def test_without_a_watchdog_of_ours_there_is_only_the_status(manager, given):
    systemd = Systemd(environment(manager, **given))
    beating = asyncio.create_task(systemd.beat(lambda: True, lambda: "fine"))
    heard = await manager.until("STATUS=fine")
    beating.cancel()
    assert heard == [["STATUS=fine"]]
    assert systemd._every == BEAT


async def test_without_systemd_nothing_is_told_and_nothing_waits():
    systemd = Systemd({})
    systemd.ready()
    async with asyncio.timeout(1):
        await systemd.beat(lambda: True, lambda: "fine")


def test_a_manager_that_has_gone_stops_nothing(manager, caplog):
    systemd = Systemd(environment(manager))
    manager.close()
    if not manager.name.startswith("@"):
        Path(manager.name).unlink()
    systemd.ready()
    assert [record.message for record in caplog.records] == ["systemd could not be told"]

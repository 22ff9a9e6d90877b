"""Secrets that change while the daemon runs: taken over by the look at the files, and nothing under way is cut off."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from pretend_api import GOOD, PretendApi, listing
from samples import AGENT
from test_app import STORY, Daemon

from monitor import reload as reload_module
from monitor import simulator
from monitor.clock import utc_now

OLD_KEY = "OLDKEY00." + "0" * 32


class Mounted:
    """Secrets as Kubernetes mounts them: files are links to a link to a folder, and that link is swapped."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self._number = 0

    def swap(self, **secrets):
        """All of these at once."""
        self._number += 1
        data = self.folder / f"..{self._number}"
        data.mkdir()
        for name, text in secrets.items():
            (data / name).write_text(f"{text}\n")
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(data.name)
        fresh.replace(self.folder / "..data")


class Written:
    """Secrets as systemd and Docker mount them, or as people write them: plain files, replaced or overwritten."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def swap(self, **secrets):
        for name, text in secrets.items():
            (self.folder / name).write_text(f"{text}\n")


@pytest.fixture
async def daemon(tmp_path, monkeypatch):
    monkeypatch.setattr(reload_module, "FILE_CHECK", 0.02)
    pretend = simulator.Simulator(simulator.load(STORY), clock=utc_now)
    await pretend.start()
    made = Daemon(tmp_path, pretend)
    yield made
    await pretend.stop()


def mounts(daemon, receiver):
    """A configuration every secret of which is in a file below $CREDENTIALS_DIRECTORY."""
    where = "${CREDENTIALS_DIRECTORY}"
    daemon.environ["CREDENTIALS_DIRECTORY"] = str(daemon.folder / "secrets")
    crm = {
        "name": "crm",
        "webhook": {"url_file": f"{where}/url", "secret_file": f"{where}/hmac"},
        "group_wait": "0s",
    }
    chat = {"name": "chat", "apprise": {"urls_file": f"{where}/apprise"}, "group_wait": "0s"}
    daemon.write("one", receivers=[crm, chat], heartbeat={"url_file": f"{where}/beat", "every": "10s"})
    daemon.path.write_text(
        daemon.path.read_text().replace("api_key: ${KEY_main}", f"api_key_file: {where}/key")
    )


def secrets(receiver, key, word):
    place = receiver.url.removeprefix("http://")
    return {
        "key": key,
        "url": f"{receiver.url}/hook/{word}",
        "hmac": f"hmac-{word}",
        "apprise": f"json://{place}/chat/{word}",
        "beat": f"{receiver.url}/beat/{word}",
    }


def in_use(app):
    """The secrets that the running daemon works with, as they stand in their files."""
    queues = {name.partition("/")[0]: queue.settings.channel for name, queue in app.delivery._queues.items()}
    found = {
        "key": app.clients._settings["main"].api_key,
        "url": queues["crm"].url,
        "hmac": queues["crm"].secret,
        "apprise": queues["chat"].url,
        "beat": app.heartbeat._settings.url,
    }
    return {name: secret.get_secret_value() for name, secret in found.items()}


@pytest.mark.parametrize("mount", [Mounted, Written])
async def test_every_secret_in_a_file_is_taken_over_when_it_changes(daemon, server, mount):
    mounts(daemon, server)
    mounted = mount(daemon.folder / "secrets")
    mounted.swap(**secrets(server, OLD_KEY, "old"))
    async with daemon.running():
        await daemon.until(daemon.app.surface.ready)
        [status] = daemon.app.book.statuses.values()
        assert status.failing
        mounted.swap(**secrets(server, daemon.accounts[0].api_key, "new"))
        await daemon.until(lambda: in_use(daemon.app) == secrets(server, daemon.accounts[0].api_key, "new"))
        await daemon.app.poller.poll_batch(status.key)
        assert not daemon.app.book.statuses[status.key].failing
        async with daemon.session.post("/api/v1/test-alert", json={}) as answer:
            assert [one["error"] for one in (await answer.json())["data"]["receivers"]] == [None, None]
        await daemon.until(
            lambda: {"/hook/new", "/chat/new", "/beat/new"} <= {one.path for one in server.requests}
        )
        assert not {"/hook/old", "/chat/old"} & {one.path for one in server.requests}


async def test_a_secret_that_is_gone_for_a_moment_changes_nothing(daemon, server):
    """Between two mounts, or while an editor renames."""
    mounts(daemon, server)
    mounted = Written(daemon.folder / "secrets")
    mounted.swap(**secrets(server, daemon.accounts[0].api_key, "old"))
    async with daemon.running():
        await daemon.until(daemon.app.surface.ready)
        key = daemon.folder / "secrets/key"
        key.unlink()
        await daemon.until(lambda: daemon.app.surface.reload_error)
        assert "key cannot be read: No such file or directory" in daemon.app.surface.reload_error
        [status] = daemon.app.book.statuses.values()
        await daemon.app.poller.poll_batch(status.key)
        assert not daemon.app.book.statuses[status.key].failing
        key.write_text(daemon.accounts[0].api_key)
        await daemon.until(lambda: daemon.app.surface.reload_error is None)


async def test_what_is_under_way_with_the_old_key_ends_properly_and_leaves_no_connection():
    """Also a list of which pages are still to come: they are asked with the old key, and each closes after itself."""
    api = PretendApi()
    await api.start()
    api.answer = listing([GOOD], [GOOD | {"batchId": "b"}], [])
    client = api.client()
    pages = client.list_batches(AGENT)
    first = await anext(pages)
    await client.retire()
    assert len([first, *[page async for page in pages]]) == 3
    assert client._transport._session is None
    held = asyncio.Event()

    async def hold(request):
        await held.wait()
        return web.json_response({"name": "main", "activeCalls": 1, "allowedConcurrentCalls": None})

    other = PretendApi(answer=lambda _: None)
    other._answer = hold
    await other.start()
    client = other.client()
    asking = asyncio.create_task(client.get_account())
    while client._transport._session is None:  # noqa: ASYNC110 - until it is under way
        await asyncio.sleep(0)
    await client.retire()
    assert client._transport._session is not None
    held.set()
    assert (await asking).name == "main"
    assert client._transport._session is None
    await other.stop()
    await api.stop()


async def test_an_error_of_our_own_while_a_rotated_key_is_read_shows_it_nowhere(daemon, monkeypatch, caplog):
    daemon.write("one")
    async with daemon.running():
        rotated = "N3wK3y99." + "f" * 32

        def stumble():
            raise RuntimeError(f"cannot use {rotated}")

        monkeypatch.setattr(daemon.app.reload, "load", stumble)
        async with daemon.session.post("/-/reload") as answer:
            said = await answer.text()
        assert answer.status == 500
        async with daemon.session.get("/api/v1/batches") as answer:
            said += await answer.text()
        async with daemon.session.get("/") as answer:
            said += await answer.text()
        assert "an error of the monitor" in said
        assert "RuntimeError" in said
        assert rotated not in said
        monkeypatch.setattr(daemon.app.reload, "load", daemon.load)

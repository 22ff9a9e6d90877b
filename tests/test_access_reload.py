"""The running daemon takes over a changed web configuration; a bad one leaves what held before."""

from __future__ import annotations

import asyncio
import logging

import bcrypt
import pytest
from doors import (
    HASH,
    PASSWORD,
    STRANGERS,
    Door,
    basic,
    client_context,
    say,
    write_certificate,
    write_web,
)
from test_app import LOADED, STORY, Daemon

from monitor import config, log, redaction, simulator
from monitor import reload as reload_module
from monitor.clock import utc_now

OTHER = bcrypt.hashpw(b"another", bcrypt.gensalt(4)).decode()


@pytest.fixture
async def daemon(tmp_path):
    pretend = simulator.Simulator(simulator.load(STORY), clock=utc_now)
    await pretend.start()
    made = Daemon(tmp_path, pretend)
    made.write("one", "two", web={"listen_address": "127.0.0.1:0", "config_file": "web.yml"})
    yield made
    await pretend.stop()


def door(daemon):
    return Door(daemon.app._serving, None)


async def metric(daemon, name, headers):
    _, _, body = await door(daemon).ask(headers=headers, tls=client_context())
    return next(line for line in body.splitlines() if line.startswith(name)).split()[1]


async def test_a_changed_password_holds_at_once(daemon, tmp_path):
    write_web(tmp_path, tls={}, users={"prometheus": HASH})
    async with daemon.running():
        assert daemon.app.address.startswith("https://127.0.0.1:")
        write_web(tmp_path, tls={}, users={"prometheus": OTHER})
        assert (await door(daemon).ask("/-/reload", "POST", basic(), tls=client_context()))[0] == 200
        assert (await door(daemon).ask(headers=basic(), tls=client_context()))[0] == 401
        assert await metric(daemon, LOADED, basic(password="another")) == "1.0"


async def test_a_bad_file_leaves_what_held_says_so_everywhere_and_shows_no_secret(daemon, tmp_path, caplog):
    write_web(tmp_path, tls={}, users={"prometheus": HASH})
    async with daemon.running():
        caplog.set_level(logging.INFO)
        write_web(tmp_path, tls={"key_file": "nowhere.pem"}, users={"prometheus": "correct-horse"})
        ask = door(daemon).ask
        code, _, body = await ask("/-/reload", "POST", basic(), tls=client_context())
        assert code == 500
        assert "web.yml:5:15: basic_auth_users.prometheus: not a bcrypt hash" in body
        assert (await ask(headers=basic(), tls=client_context()))[0] == 200
        assert await metric(daemon, LOADED, basic()) == "0.0"
        _, _, told = await ask("/api/v1/batches", headers=basic(), tls=client_context())
        _, _, page = await ask("/", headers=basic(), tls=client_context())
        assert "not a bcrypt hash" in told
        for text in (body, told, page, caplog.text):
            assert "correct-horse" not in text
            assert "nowhere.pem" not in text
            assert HASH not in text
        refused = [one for one in caplog.records if "refused" in one.message]
        assert len(refused) == 1


async def test_a_certificate_that_changes_on_the_disk_is_shown_and_nobody_is_cut_off(
    daemon, tmp_path, monkeypatch
):
    monkeypatch.setattr(reload_module, "FILE_CHECK", 0.02)
    write_web(tmp_path, tls={})
    async with daemon.running():
        reader, writer = await door(daemon).knock(tls=client_context())
        assert (await say(reader, writer, "/-/healthy"))[0] == 200
        before = writer.get_extra_info("peercert")["serialNumber"]
        access = daemon.app.reload.config.access

        # Half of it: the key comes later. Nobody is to see a certificate without its key.
        key = tmp_path.joinpath("key.pem").read_bytes()
        write_certificate(tmp_path)
        new = tmp_path.joinpath("key.pem").read_bytes()
        tmp_path.joinpath("key.pem").write_bytes(key)
        await daemon.until(lambda: daemon.app.surface.reload_error)
        assert "is not the key of the certificate" in daemon.app.surface.reload_error
        assert (await door(daemon).ask("/-/healthy", tls=client_context()))[0] == 200

        tmp_path.joinpath("key.pem").write_bytes(new)
        await daemon.until(lambda: daemon.app.reload.config.access is not access)
        _, other = await door(daemon).knock(tls=client_context())
        assert other.get_extra_info("peercert")["serialNumber"] != before
        assert (await say(reader, writer, "/-/healthy"))[0] == 200
        assert daemon.app.surface.reload_error is None
        other.close()
        writer.close()


async def test_a_ca_that_changes_on_the_disk_is_asked_for_from_then_on(daemon, tmp_path, monkeypatch):
    monkeypatch.setattr(reload_module, "FILE_CHECK", 0.02)
    mutual = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    write_web(tmp_path, tls=mutual)
    issued = STRANGERS.issue_cert("prometheus.example")
    async with daemon.running():
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await door(daemon).ask(tls=client_context(issued))
        access = daemon.app.reload.config.access
        tmp_path.joinpath("ca.pem").write_bytes(STRANGERS.cert_pem.bytes())
        await daemon.until(lambda: daemon.app.reload.config.access is not access)
        assert (await door(daemon).ask(tls=client_context(issued)))[0] == 200


@pytest.mark.parametrize(("gone", "said"), [(False, "the file is empty"), (True, "cannot be read")])
async def test_a_file_that_is_emptied_or_gone_does_not_open_the_door(
    daemon, tmp_path, monkeypatch, gone, said
):
    monkeypatch.setattr(reload_module, "FILE_CHECK", 0.02)
    path = write_web(tmp_path, users={"prometheus": HASH})
    async with daemon.running():
        if gone:
            path.unlink()
        else:
            path.write_text("")
        await daemon.until(lambda: daemon.app.surface.reload_error)
        assert said in daemon.app.surface.reload_error
        assert (await door(daemon).ask())[0] == 401


async def test_hashes_and_where_the_key_lies_are_hidden_in_the_log(daemon, tmp_path):
    formatter = log.LineFormatter(as_json=False)
    write_web(tmp_path, tls={}, users={"prometheus": HASH})
    config.load(daemon.path, daemon.environ, hide=formatter.hide)
    record = logging.makeLogRecord({"msg": f"{HASH} {tmp_path / 'key.pem'}", "levelname": "INFO"})
    assert formatter.format(record).count(redaction.REDACTED) == 2
    assert PASSWORD not in formatter.format(record)

"""TLS on real sockets: what is agreed on, whose certificate is taken, and what a change of the files does."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import warnings

import pytest
from doors import (
    AUTHORITY,
    HASH,
    STRANGERS,
    access,
    basic,
    client_context,
    opened,
    say,
    write_certificate,
    write_web,
)

MUTUAL = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
IF_GIVEN = {"client_auth_type": "VerifyClientCertIfGiven", "client_ca_file": "ca.pem"}


def serial(writer):
    return writer.get_extra_info("peercert")["serialNumber"]


async def agreed(door, tls):
    """The version and the cipher of a handshake."""
    _, writer = await door.knock(tls=tls)
    cipher, version, _ = writer.get_extra_info("cipher")
    writer.close()
    return writer.get_extra_info("ssl_object").version() or version, cipher


async def test_it_is_spoken_and_plain_http_is_not(tmp_path):
    async with opened(write_web(tmp_path, tls={})) as door:
        code, _, body = await door.ask(tls=client_context())
        assert (code, "ultravox_batch_info" in body) == (200, True)
        reader, writer = await door.knock()
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"ultravox" not in await reader.read()
        writer.close()


async def test_who_does_not_know_the_authority_does_not_talk_to_us(tmp_path):
    async with opened(write_web(tmp_path, tls={})) as door:
        with pytest.raises(ssl.SSLCertVerificationError):
            await door.ask(tls=client_context(authority=STRANGERS))
        assert (await door.ask(tls=client_context()))[0] == 200


async def test_a_page_of_many_batches_comes_whole_and_compressed(tmp_path):
    """Those are compressed before they are sent, and say how long they are."""
    from samples import NOW, account, batch_key, status

    from monitor.model import Snapshot

    rows = tuple(status(key=batch_key(number)) for number in range(300))
    async with opened(write_web(tmp_path, tls={})) as door:
        door.daemon.shown = Snapshot(NOW, rows, (account(),))
        reader, writer = await door.knock(tls=client_context())
        writer.write(
            b"GET /api/v1/batches?limit=300 HTTP/1.1\r\nHost: a\r\n"
            b"Accept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        )
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert f"Content-Length: {len(body)}".encode() in head
        assert len(gzip.decompress(body)) > 200_000
        _, _, plain = await door.ask("/api/v1/batches?limit=300", tls=client_context())
        assert plain.encode() == gzip.decompress(body)


async def test_an_answer_of_some_megabytes_comes_whole(tmp_path, monkeypatch):
    from monitor.web import answers

    told = {"data": [f"a {number}" for number in range(400_000)]}
    monkeypatch.setattr(answers, "batches", lambda *_: told)
    text = json.dumps(told)
    for given, tls in ((None, None), (write_web(tmp_path, tls={}), client_context())):
        async with opened(given) as door:
            reader, writer = await door.knock(tls=tls)
            for _ in range(2):
                _, said, body = await say(reader, writer, "/api/v1/batches")
                assert body == text
                assert said["Content-Type"].startswith("application/json")
            writer.write(b"HEAD /api/v1/batches HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            head = await reader.read()
            assert f"Content-Length: {len(text)}".encode() in head
            assert head.endswith(b"\r\n\r\n")
            writer.close()


@pytest.mark.parametrize(
    ("keys", "version"),
    [({}, "TLSv1.3"), ({"max_version": "TLS12"}, "TLSv1.2"), ({"min_version": "TLS13"}, "TLSv1.3")],
)
async def test_versions(tmp_path, keys, version):
    async with opened(write_web(tmp_path, tls=keys)) as door:
        assert (await agreed(door, client_context()))[0] == version


async def test_older_versions_are_refused(tmp_path):
    async with opened(write_web(tmp_path, tls={"min_version": "TLS13"})) as door:
        old = client_context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ConnectionResetError):  # asyncio sends no alert
            await door.ask(tls=old)
    async with opened(write_web(tmp_path, tls={})) as door:
        older = client_context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            older.minimum_version = older.maximum_version = ssl.TLSVersion.TLSv1_1
        older.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ConnectionResetError):
            await door.ask(tls=older)


async def test_ciphers_are_those_named_in_their_order(tmp_path):
    suites = ["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]
    path = write_web(tmp_path, tls={"max_version": "TLS12", "cipher_suites": suites})
    async with opened(path) as door:
        theirs = client_context()
        theirs.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305")
        assert (await agreed(door, theirs))[1] == "ECDHE-ECDSA-CHACHA20-POLY1305"
        door.use(
            write_web(
                tmp_path,
                tls={"max_version": "TLS12", "cipher_suites": suites, "prefer_server_cipher_suites": False},
            )
        )
        assert (await agreed(door, theirs))[1] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        theirs.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with pytest.raises(ConnectionResetError):
            await door.ask(tls=theirs)


def issue(*names, authority=AUTHORITY):
    return authority.issue_cert(*names)


SCRAPER = issue("prometheus.example", "192.0.2.7", "2001:db8::7", "ops@example.org")
ALLOWED = [
    ("no certificate", MUTUAL, None, 403, "a client certificate is needed"),
    ("one that the CA signed", MUTUAL, SCRAPER, 200, ""),
    ("by its DNS name", MUTUAL | {"client_allowed_sans": ["prometheus.example"]}, SCRAPER, 200, ""),
    ("by its address", MUTUAL | {"client_allowed_sans": ["192.0.2.7"]}, SCRAPER, 200, ""),
    ("however written", MUTUAL | {"client_allowed_sans": ["2001:DB8:0::7"]}, SCRAPER, 200, ""),
    ("by its mail address", MUTUAL | {"client_allowed_sans": ["a", "ops@example.org"]}, SCRAPER, 200, ""),
    (
        "another name",
        MUTUAL | {"client_allowed_sans": ["example"]},
        SCRAPER,
        403,
        "names nobody who is allowed",
    ),
    ("none, not needed", IF_GIVEN, None, 200, ""),
    ("given, not needed", IF_GIVEN, SCRAPER, 200, ""),
]


@pytest.mark.parametrize(
    ("keys", "issued", "code", "text"), [row[1:] for row in ALLOWED], ids=[row[0] for row in ALLOWED]
)
async def test_whose_certificate_is_taken(tmp_path, keys, issued, code, text):
    async with opened(write_web(tmp_path, tls=keys)) as door:
        answered, _, body = await door.ask(tls=client_context(issued))
        assert answered == code
        assert text in body
        assert ("ultravox" in body) == (code == 200)


@pytest.mark.parametrize("keys", [MUTUAL, IF_GIVEN])
async def test_a_certificate_that_somebody_else_signed_ends_the_handshake(tmp_path, keys):
    async with opened(write_web(tmp_path, tls=keys)) as door:
        forged = issue("prometheus.example", authority=STRANGERS)
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await door.ask(tls=client_context(forged))


async def test_health_needs_no_client_certificate(tmp_path):
    async with opened(write_web(tmp_path, tls=MUTUAL, users={"a": HASH})) as door:
        for path in ("/-/healthy", "/-/ready"):
            assert (await door.ask(path, tls=client_context()))[0] == 200


async def test_a_certificate_does_not_replace_the_password(tmp_path):
    async with opened(write_web(tmp_path, tls=MUTUAL, users={"prometheus": HASH})) as door:
        for issued, headers, code in (
            (None, basic(), 403),
            (SCRAPER, {}, 401),
            (SCRAPER, basic(password="wrong"), 401),
            (SCRAPER, basic(), 200),
        ):
            assert (await door.ask(tls=client_context(issued), headers=headers))[0] == code


# Change of the files


async def test_a_new_certificate_is_shown_to_whoever_comes_and_who_is_there_stays(tmp_path):
    path = write_web(tmp_path, tls=MUTUAL)
    async with opened(path) as door:
        reader, writer = await door.knock(tls=client_context(SCRAPER))
        assert (await say(reader, writer))[0] == 200
        write_certificate(tmp_path)
        door.use(path)
        _, other = await door.knock(tls=client_context(SCRAPER))
        assert serial(other) != serial(writer)
        assert (await say(reader, writer))[0] == 200
        writer.close()
        other.close()


async def test_who_was_trusted_before_is_not_any_more(tmp_path):
    async with opened(write_web(tmp_path, tls=MUTUAL)) as door:
        ours = client_context(SCRAPER)
        reader, writer = await door.knock(tls=ours)
        assert (await say(reader, writer))[0] == 200
        door.use(write_web(tmp_path, tls=MUTUAL, authority=STRANGERS))
        assert await reader.read() == b""  # idle: closed, so that they come again
        writer.close()
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await door.ask(tls=ours)


async def test_a_session_ends_with_the_files_it_began_under(tmp_path):
    """A ticket says that a certificate was looked at once. It must not outlive whom it was looked at for."""
    path = write_web(tmp_path, tls=MUTUAL | {"max_version": "TLS12"})

    async def resumed(port, context, session):
        def shake():
            import socket

            with (
                socket.create_connection(("127.0.0.1", port)) as wire,
                context.wrap_socket(wire, server_hostname="localhost", session=session) as spoken,
            ):
                return spoken.session, spoken.session_reused

        return await asyncio.to_thread(shake)

    async with opened(path) as door:
        ours = client_context(SCRAPER)
        session, reused = await resumed(door.port, ours, None)
        assert not reused
        assert (await resumed(door.port, ours, session))[1]
        door.use(path)
        assert not (await resumed(door.port, ours, session))[1]


async def test_a_request_under_way_is_answered_when_others_are_to_be_trusted(tmp_path, monkeypatch):
    path = write_web(tmp_path, tls=MUTUAL)
    async with opened(path) as door:
        begun, go = asyncio.Event(), asyncio.Event()

        async def reload():
            begun.set()
            await go.wait()

        door.daemon.reload = reload
        reader, writer = await door.knock(tls=client_context(SCRAPER))
        asked = asyncio.create_task(say(reader, writer, "/-/reload", "POST"))
        await begun.wait()
        door.use(write_web(tmp_path, tls=MUTUAL, authority=STRANGERS))
        go.set()
        assert (await asked)[0] == 200
        assert await reader.read() == b""  # and that was the last one
        writer.close()


async def test_switching_tls_on_ends_plain_connections(tmp_path):
    async with opened() as door:
        reader, writer = await door.knock()
        assert (await say(reader, writer))[0] == 200
        door.use(write_web(tmp_path, tls={}))
        assert await reader.read() == b""
        writer.close()
        assert (await door.ask(tls=client_context()))[0] == 200


def test_what_is_read_does_not_show_itself(tmp_path):
    read = access(write_web(tmp_path, tls={}, users={"a": HASH}))
    assert HASH not in repr(read)
    assert "key.pem" not in repr(read)


async def test_an_authority_below_the_root_is_trusted_by_itself(tmp_path):
    """Go takes whatever is in that file, root or not; so one file serves all exporters."""
    between = AUTHORITY.create_child_ca()
    issued = between.issue_cert("prometheus.example")
    path = write_web(tmp_path, tls=MUTUAL)
    tmp_path.joinpath("ca.pem").write_bytes(between.cert_pem.bytes())
    async with opened(path) as door:
        assert (await door.ask(tls=client_context(issued)))[0] == 200
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            await door.ask(tls=client_context(AUTHORITY.issue_cert("other.example")))

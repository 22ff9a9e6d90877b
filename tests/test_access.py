"""Who is let in, on a real socket: passwords, what other sites send, what is switched off."""

from __future__ import annotations

import asyncio
import base64
import logging

import bcrypt
import pytest
from doors import HASH, PASSWORD, basic, opened, say, write_web

from monitor.web import access, passwords
from monitor.web.passwords import ADDRESSES, QUEUE, REMEMBERED, TRIES, TRY_EVERY, Limiter, network

USERS = {"prometheus": HASH}
GUARDED = (
    "/",
    "/batches/3c90",
    "/static/page.css",
    "/favicon.ico",
    "/metrics",
    "/api/v1/batches",
    "/api/v1/alerts",
    "/api/v1/explain",
    "/api/v1/notifications",
    "/api/v1/mutes",
    "/api/v1/handover",
    "/nowhere",
)


@pytest.fixture
def guarded(tmp_path):
    return write_web(tmp_path, users=USERS)


@pytest.fixture
def hashed(monkeypatch):
    """The hashes that bcrypt was asked about."""
    asked, real = [], bcrypt.checkpw

    def counted(password, given):
        asked.append(given.decode())
        return real(password, given)

    monkeypatch.setattr(passwords.bcrypt, "checkpw", counted)
    return asked


def encoded(text):
    return {"Authorization": f"Basic {base64.b64encode(text).decode()}"}


OUTCOMES = [
    ("no header", {}, 401),
    ("another scheme", {"Authorization": "Bearer abc"}, 401),
    ("no credentials", {"Authorization": "Basic"}, 401),
    ("not base64", {"Authorization": "Basic !!!"}, 401),
    (
        "the right ones, with junk before",
        {"Authorization": basic()["Authorization"].replace(" ", " !!!")},
        401,
    ),
    ("no colon", encoded(b"prometheus"), 401),
    ("unknown user", basic("nobody"), 401),
    ("nobody", basic("", ""), 401),
    ("wrong password", basic(password="wrong"), 401),
    ("no password", basic(password=""), 401),
    ("the hash itself", basic(password=HASH), 401),
    ("a zero byte", encoded(b"prometheus:a\0b"), 401),
    ("not UTF-8", encoded(b"prometheus:\xff\xfe"), 401),
    ("a user not UTF-8", encoded(b"\xff\xfe:" + PASSWORD.encode()), 401),
    ("longer than bcrypt looks", basic(password="x" * 100), 401),
    ("right", basic(), 200),
    (
        "right, the scheme in other letters",
        {"authorization": basic()["Authorization"].replace("Basic", "bASIC")},
        200,
    ),
]


@pytest.mark.parametrize(("headers", "code"), [row[1:] for row in OUTCOMES], ids=[row[0] for row in OUTCOMES])
async def test_who_is_let_in(guarded, headers, code):
    async with opened(guarded) as door:
        answered, said, body = await door.ask(headers=headers)
        assert answered == code
        if code == 401:
            assert said["Www-Authenticate"] == 'Basic realm="batch-monitor", charset="UTF-8"'
            assert "ultravox" not in body
        else:
            assert "ultravox_batch_info" in body


@pytest.mark.parametrize("path", GUARDED)
async def test_every_route_is_guarded(guarded, path):
    async with opened(guarded) as door:
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
            reader, writer = await door.knock()
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            assert (await reader.read()).startswith(b"HTTP/1.1 401"), (method, path)
            writer.close()


def test_every_route_there_is_is_among_them():
    from samples import NOW
    from test_web import Daemon

    from monitor.metrics import Instruments
    from monitor.web import server

    app = server._application(Daemon(), Instruments(endpoints=(), send_failures=(), now=NOW), None, None)
    routes = {route.canonical for route in app.router.resources()}
    assert routes - access.OPEN == {
        *(path for path in GUARDED if path not in {"/batches/3c90", "/static/page.css", "/nowhere"}),
        "/batches/{batch_id}",
        "/static/{name}",
        "/api/v1/test-alert",
        "/-/reload",
    }


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready", "/-/healthy?a=b"])
async def test_health_is_open_and_tells_nothing(guarded, path):
    async with opened(guarded) as door:
        code, _, body = await door.ask(path)
        assert code == 200
        assert len(body) < 20
        assert (await door.ask(path, headers=basic(password="wrong")))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/-/healthy/",
        "/-/healthy/../../metrics",
        "//-/healthy",
        "/-/healthy/metrics",
        "/-/Healthy",
        "/-/reload",
    ],
)
async def test_no_other_path_is_taken_for_health(guarded, path):
    async with opened(guarded) as door:
        assert (await door.ask(path))[0] == 401
        assert (await door.ask(path, "POST"))[0] == 401
        assert door.daemon.reloads == 0


async def test_a_password_is_hashed_once_and_then_remembered_until_the_configuration_is_read_anew(
    guarded, tmp_path, hashed
):
    async with opened(guarded) as door:
        assert [(await door.ask(headers=basic()))[0] for _ in range(3)] == [200] * 3
        assert hashed == [HASH]
        door.use(guarded)
        assert (await door.ask(headers=basic()))[0] == 200
        assert hashed == [HASH] * 2
        other = bcrypt.hashpw(b"another", bcrypt.gensalt(4)).decode()
        door.use(write_web(tmp_path, users={"prometheus": other}))
        assert (await door.ask(headers=basic()))[0] == 401
        assert (await door.ask(headers=basic(password="another")))[0] == 200
        door.use(write_web(tmp_path, users={"other": other}))
        assert (await door.ask(headers=basic(password="another")))[0] == 401


async def test_of_a_long_password_the_first_72_bytes_count_as_they_do_for_htpasswd(tmp_path):
    long = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    async with opened(write_web(tmp_path, users={"a": long})) as door:
        assert (await door.ask(headers=basic("a", "x" * 100)))[0] == 200
        assert (await door.ask(headers=basic("a", "x" * 71)))[0] == 401


async def test_the_same_wrong_password_again_is_no_guess(guarded, hashed):
    """A terminal that was forgotten with an old password must not lock its address out."""
    async with opened(guarded) as door:
        for _ in range(3 * TRIES):
            assert (await door.ask(headers=basic(password="of yesterday")))[0] == 401
        assert hashed == [HASH]
        assert (await door.ask(headers=basic()))[0] == 200
        door.serving.use(door.serving._guard.access)  # read anew: it may be right now
        assert (await door.ask(headers=basic(password="of yesterday")))[0] == 401
    assert len(hashed) == 3


async def test_a_name_that_nobody_has_costs_as_much_as_one_that_somebody_has(tmp_path, hashed):
    users = {"a": HASH, "b": bcrypt.hashpw(b"b", bcrypt.gensalt(5)).decode()}
    async with opened(write_web(tmp_path, users=users)) as door:
        for name in "cdefghijklmnopqrstuvwxyz":
            door.now += 60
            assert (await door.ask(headers=basic(name)))[0] == 401
        costs = {one[4:6] for one in hashed}
        assert costs == {"04", "05"}  # of each name always the same: so do those of users
        seen = hashed[-1]
        assert (await door.ask(headers=basic("z", "another")))[0] == 401
        assert hashed[-1] == seen
    assert not set(users.values()) & set(hashed)


async def test_the_same_password_asked_for_at_once_is_hashed_once(guarded, hashed):
    async with opened(guarded) as door:
        answers = await asyncio.gather(*(door.ask(headers=basic()) for _ in range(30)))
    assert {code for code, _, _ in answers} == {200}
    assert hashed == [HASH]


async def test_only_so_many_checks_wait(guarded, hashed):
    async with opened(guarded) as door:
        asked = [
            door.ask(headers=basic(password=f"wrong {number}"), source=f"127.0.0.{2 + number}")
            for number in range(QUEUE + 20)
        ]
        answers = await asyncio.gather(*asked)
    codes = [code for code, _, _ in answers]
    assert set(codes) <= {401, 503}
    assert len(hashed) == codes.count(401)
    assert all(said["Retry-After"] == "1" for code, said, _ in answers if code == 503)


async def test_what_is_hashed_at_once_is_bounded(guarded, monkeypatch):
    from threading import Event

    free, seen = Event(), []

    def slow(password, _):
        seen.append(password)
        free.wait(20)
        return False

    monkeypatch.setattr(passwords.bcrypt, "checkpw", slow)
    async with opened(guarded) as door:
        waiting = [
            asyncio.create_task(door.passwords.check("prometheus", b"%d" % n, f"10.0.0.{n}"))
            for n in range(1 + QUEUE)
        ]
        await asyncio.sleep(0)
        code, said, _ = await door.ask(headers=basic(password="one more"))
        assert (code, said["Retry-After"]) == (503, "1")
        assert (await door.ask("/-/healthy"))[0] == 200  # the loop is free
        assert len(seen) == 1
        free.set()
        assert set(await asyncio.gather(*waiting)) == {passwords.Verdict.WRONG}


async def test_after_ten_wrong_passwords_an_address_is_not_listened_to_and_another_is(
    guarded, hashed, caplog
):
    caplog.set_level(logging.WARNING)
    async with opened(guarded) as door:
        for number in range(TRIES):
            assert (await door.ask(headers=basic(password=f"wrong {number}")))[0] == 401
        for headers in (basic(password="one more"), basic(), basic("nobody")):
            code, said, body = await door.ask(headers=headers)
            assert (code, said["Retry-After"]) == (429, "6")
            assert "try again in 6 s" in body
        assert len(hashed) == TRIES  # refused without a hash
        assert (await door.ask(headers=basic(), source="127.0.0.2"))[0] == 200
        assert (await door.ask("/-/healthy"))[0] == 200
        assert (await door.ask())[0] == 401  # who sends no password tries none
        door.now += TRY_EVERY
        assert (await door.ask(headers=basic()))[0] == 200
    assert [record.message for record in caplog.records].count(
        "too many wrong passwords, the address is not listened to for a while"
    ) == 1
    assert PASSWORD not in caplog.text
    assert "nobody" not in caplog.text


async def test_what_is_remembered_is_no_way_around_the_limit(guarded):
    """Else whoever is locked out could go on guessing, at the speed of a look into what is remembered."""
    async with opened(guarded) as door:
        assert (await door.ask(headers=basic(), source="127.0.0.2"))[0] == 200
        for number in range(TRIES):
            await door.ask(headers=basic(password=f"wrong {number}"))
        assert (await door.ask(headers=basic()))[0] == 429


async def test_right_passwords_use_up_nothing(guarded):
    async with opened(guarded) as door:
        for _ in range(3 * TRIES):
            assert (await door.ask(headers=basic()))[0] == 200
        assert (await door.ask(headers=basic(password="wrong")))[0] == 401


async def test_a_forwarded_address_is_not_believed(guarded):
    async with opened(guarded) as door:
        for number in range(TRIES):
            headers = basic(password=f"wrong {number}") | {"X-Forwarded-For": f"10.0.0.{number}"}
            assert (await door.ask(headers=headers))[0] == 401
        headers = basic(password="one more") | {"X-Forwarded-For": "10.0.0.99"}
        assert (await door.ask(headers=headers))[0] == 429


async def test_guesses_sent_all_at_once_count_like_others(guarded, hashed):
    async with opened(guarded) as door:
        guesses = [door.ask(headers=basic(password=f"wrong {number}")) for number in range(3 * TRIES)]
        codes = [code for code, _, _ in await asyncio.gather(*guesses)]
    assert (codes.count(401), codes.count(429)) == (TRIES, 2 * TRIES)
    assert len(hashed) == TRIES


@pytest.mark.parametrize(
    ("tries", "later", "left"), [(10, 0, 0), (10, 5.9, 0), (10, 6, 1), (10, 60, 10), (10, 600, 10), (4, 6, 7)]
)
def test_tries_come_back_one_by_one(tries, later, left):
    limiter = Limiter()
    assert all(limiter.take("a", 100.0) for _ in range(tries))
    assert [limiter.take("a", 100.0 + later) for _ in range(left + 1)] == [True] * left + [False]


def test_addresses_are_forgotten_the_oldest_first():
    limiter = Limiter()
    for number in range(ADDRESSES + 5):
        limiter.take(str(number), 0.0)
    assert len(limiter._tries) == ADDRESSES
    assert "4" not in limiter._tries
    assert "5" in limiter._tries


async def test_what_is_remembered_is_bounded_and_holds_no_password(tmp_path):
    users = {f"user-{number}": HASH for number in range(3)}
    async with opened(write_web(tmp_path, users=users)) as door:
        door.passwords._right.update(dict.fromkeys((b"%d" % number for number in range(REMEMBERED)), None))
        for name in users:
            assert (await door.ask(headers=basic(name)))[0] == 200
        assert len(door.passwords._right) == REMEMBERED
        assert PASSWORD not in repr(vars(door.passwords))
        assert HASH not in repr(door.serving._guard.access)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
    ],
)
def test_whose_tries_count_together(address, counted):
    assert network(address) == counted


async def test_the_api_says_it_in_its_own_form(guarded):
    async with opened(guarded) as door:
        _, said, body = await door.ask("/api/v1/batches")
        assert said["Content-Type"].startswith("application/json")
        assert '"error": "a name and a password are needed"' in body


# What other sites have browsers send

POSTS = [
    ("curl", {}, 200),
    ("typed by a person", {"Sec-Fetch-Site": "none"}, 200),
    ("our own page", {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 200),
    ("our own page, an old browser", {"Origin": "http://localhost"}, 200),
    ("as people reach us, behind a proxy", {"Origin": "https://monitor.example"}, 200),
    ("another site", {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
    ("another site, an old browser", {"Origin": "https://evil.example"}, 403),
    ("another site on our domain", {"Sec-Fetch-Site": "same-site"}, 403),
    ("another port of this machine", {"Origin": "http://localhost:3000"}, 403),
    ("a sandboxed frame", {"Origin": "null"}, 403),
    ("no origin at all", {"Origin": ""}, 403),
    ("what nobody knows yet", {"Sec-Fetch-Site": "sideways"}, 403),
]


@pytest.mark.parametrize(("headers", "code"), [row[1:] for row in POSTS], ids=[row[0] for row in POSTS])
async def test_what_other_sites_send_changes_nothing(headers, code):
    async with opened(external_url="https://monitor.example") as door:
        answered, _, _ = await door.ask("/-/reload", "POST", headers)
        assert (answered, door.daemon.reloads) == (code, 1 if code == 200 else 0)


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        ("monitor.internal:10042", None, 200),
        ("192.0.2.7:10042", "http://192.0.2.7:10042", 200),
        ("[::1]:10042", "http://[::1]:10042", 200),
        ("evil.example:10042", "http://evil.example:10042", 403),  # a name that was turned to our address
        ("evil.example", "https://monitor.example", 200),  # what the proxy calls us
    ],
)
async def test_a_foreign_name_of_our_address_is_foreign(host, origin, code):
    async with opened(external_url="https://monitor.example") as door:
        reader, writer = await door.knock()
        said = f"Origin: {origin}\r\n" if origin else ""
        writer.write(f"POST /-/reload HTTP/1.1\r\nHost: {host}\r\n{said}Connection: close\r\n\r\n".encode())
        assert (await reader.read()).startswith(f"HTTP/1.1 {code}".encode())
        writer.close()


async def test_looking_is_not_changing():
    async with opened() as door:
        assert (await door.ask("/metrics", headers={"Sec-Fetch-Site": "cross-site"}))[0] == 200


@pytest.mark.parametrize("path", ["/-/reload", "/api/v1/mutes", "/api/v1/test-alert"])
async def test_read_only_changes_nothing(path):
    async with opened(read_only=True) as door:
        code, _, body = await door.ask(path, "POST", {"Content-Type": "application/json"})
        assert code == 403
        assert "read only: nothing can be changed over HTTP (--web.read-only)" in body
        assert door.daemon.reloads == 0
        assert (await door.ask("/metrics"))[0] == 200
        assert (await door.ask("/api/v1/batches"))[0] == 200


# Headers

ALWAYS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "deny", "Server": "batch-monitor"}


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/nowhere", "/-/healthy", "/api/v1/batches", "/static/page.css", "/ bad"]
)
async def test_every_answer_has_the_headers_that_browsers_heed(path):
    async with opened() as door:
        _, said, _ = await door.ask(path)
        assert {name: said.get(name) for name in ALWAYS} == ALWAYS
        assert said["Referrer-Policy"] in {"no-referrer", "same-origin"}
        assert "frame-ancestors 'none'" in said["Content-Security-Policy"]
        assert "Strict-Transport-Security" not in said


async def test_the_web_configuration_sets_headers_and_takes_them_away(tmp_path):
    headers = {
        "X-Frame-Options": "sameorigin",
        "Strict-Transport-Security": "max-age=31536000",
        "Content-Security-Policy": "",
    }
    async with opened(write_web(tmp_path, headers=headers)) as door:
        _, said, _ = await door.ask("/metrics")
        assert said["X-Frame-Options"] == "sameorigin"
        assert said["Strict-Transport-Security"] == "max-age=31536000"
        assert "Content-Security-Policy" not in said
        _, said, _ = await door.ask("/")
        assert "default-src 'none'" in said["Content-Security-Policy"]  # a page knows best what it needs
        door.use(write_web(tmp_path, headers={}))
        _, said, _ = await door.ask("/metrics")
        assert said["X-Frame-Options"] == "deny"


async def test_what_is_no_request_is_not_repeated(caplog):
    async with opened() as door:
        reader, writer = await door.knock()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic " + b"c2VjcmV0" * 2000 + b"\r\n\r\n")
        said = await reader.read()
        writer.close()
    assert said.split()[1] == b"400"
    assert b"c2VjcmV0" not in said
    assert "c2VjcmV0" not in caplog.text
    assert not caplog.records


async def test_a_kept_connection_asks_for_the_password_each_time(guarded):
    async with opened(guarded) as door:
        reader, writer = await door.knock()
        codes = [(await say(reader, writer, headers=headers))[0] for headers in (basic(), {}, basic())]
        writer.close()
    assert codes == [200, 401, 200]

"""No planted secret is in anything that a real daemon gives out, whatever goes wrong; and the search finds what is.

Slow (a minute and a half), so marked `hostile`: `make test-hostile`. What is planted: tests/hostile/planted.py.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from hostile.planted import ALL, CONFIGURED, TOLD, search
from hostile.world import World

from monitor.simulator import FaultKind

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(240)]

BAD_CONFIGS = {
    "literal secrets": "accounts: [{{name: main, api_key: {api_key}}}]\nreceivers: [{{name: a, webhook: {{url: 'ftp://x/{webhook_token}', secret: '{webhook_token}'}}}}]",
    "secrets as files": "accounts: [{{name: main, api_key_file: {api_key}}}]\nreceivers: [{{name: a, webhook: {{url_file: 'https://x/{webhook_token}'}}}}]",
    "without a blank": "accounts: [{{name: main, api_key:{api_key}}}]\nheartbeat: {{url:https://x/{heartbeat_token}}}",
    "secrets as keys": "{api_key}: 1\nreceivers: [{{{webhook_token}: 1}}]\n",
    "not YAML": "accounts: [{{name: main, api_key: {api_key}\n",
    "a tag": "accounts: [{{name: main, api_key: !{webhook_token} x}}]",
    "apprise": "accounts: [{{name: main, api_key_file: key}}]\nreceivers: [{{name: a, apprise: {{urls: ['slackk://{apprise_token}/x', 'https://{apprise_token}.example/', '{apprise_token}']}}}}]",
    "by variables": "accounts: [{{name: main, api_key_file: '${{SECRET}}'}}]\nreceivers: [{{name: a, webhook: {{url: '${{SECRET}}'}}}}]\nlinks: {{runbook_url: '{{${{SECRET}}}}'}}",
}  # fmt: skip


CRASHES = (  # that the log must tell of: else nothing was to be hidden
    b"get_batch with", b"get_outcomes with", b"read with", b"render with", b"postable with", b"_ping with", b"alerts with", b"write with",
    b"a task with", b"a thread crashed", b"Exception in callback int(", b"py.warnings", b"this line cannot be written",
    b"an error that nobody can catch", b"stumbled", b"at the very end",
)  # fmt: skip


async def go_through_everything(world):
    """The life of a daemon, from good days to bad ones."""
    await world.until(
        lambda: {one.path.split("/")[1] for one in world.heard} >= {"hook", "api", "chat", "beat"}
    )
    await world.look("on a good day")
    for kind in FaultKind:
        await world.trouble(kind)
    world.ill = True
    for _ in range(6):  # every answer to every receiver
        await world.post("/api/v1/test-alert", {})
    await world.look("while receivers fail")
    await world.post("/api/v1/mutes", {"batch_id": "zzz", "for_seconds": 1})
    for command in (
        ("status",),
        ("explain", "zzz"),
        ("explain", world.batch),
        ("test-alert",),
        ("healthcheck",),
    ):
        await world.command(*command, "--url", world.url)
    # A bad configuration, then a key that was rotated: seen by the look at the files.
    good = (world.folder / "config.yaml").read_text()
    for name, text in BAD_CONFIGS.items():
        (world.folder / "bad.yaml").write_text(text.format(**CONFIGURED))
        await world.command("check-config", "bad.yaml", SECRET=CONFIGURED["webhook_token"])
        (world.folder / "config.yaml").write_text(text.format(**CONFIGURED))
        await world.post("/-/reload", None)
        await world.look(f"after a bad configuration: {name}", ("/", "/api/v1/batches"))
    (world.folder / "config.yaml").write_text(good)
    (world.folder / "key").write_text(CONFIGURED["rotated_key"])
    await world.post("/-/reload", None)
    await world.until(lambda: world.pretend.requests[-1].status == 401)
    await world.command("check-config", "config.yaml")
    await world.command("uncalled", "3c90c3cc-0d44-4b50-8888-8dd25736052a", "--config.file", "config.yaml")
    await world.look("after a rotation")
    world.collect()
    await world.end()
    # A state file that is damaged is set aside.
    world.take("the log of the first", world.log.read_bytes())
    (world.folder / "key").write_text(
        CONFIGURED["api_key"]
    )  # of the key before, a new process would know nothing
    state = world.folder / "monitor.db"
    state.write_bytes(b"damaged" + state.read_bytes()[7:])
    await world._spawn()
    await world.look("after a damaged state file")
    await world.end()
    world.collect()


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
async def test_no_secret_is_in_anything_that_comes_out(tmp_path, log_format, capsys):
    world = World(tmp_path, log_format)
    await world.start()
    try:
        await go_through_everything(world)
    finally:
        await world.stop()
    found = world.found()
    assert found == [], "\n".join(found[:40])
    log = b"".join(content for place, content, _ in world.outputs if place.endswith((".log", "first")))
    for crash in CRASHES:
        assert crash in log, f"what was to crash did not: {crash}"
    assert log.count(b"<redacted>") > 100
    places = Counter(place.partition(" ")[0].partition("?")[0] for place, *_ in world.outputs)
    with capsys.disabled():
        sys.stdout.write(f"\n{log_format}: {len(ALL)} secrets in none of {sum(places.values()):,} outputs, ")
        sys.stdout.write(f"{sum(len(content) for _, content, _ in world.outputs):,} bytes\n")
        sys.stdout.write(
            "  " + ", ".join(f"{place} {count}" for place, count in sorted(places.items())) + "\n"
        )


BROKEN = {
    # what is taken out, and where a secret must be found then
    "no_redaction": (".log", "api_key"),
    "no_base64": (".log", "api_key"),
    "no_parts": (".log", "webhook_token"),
    "no_hooks": (".log", "api_key"),
    "no_care_with_records": (".log", "webhook_token"),
    "answers_are_quoted": ("/api/v1/batches", "webhook_secret"),
    "addresses_are_quoted": ("/api/v1/", "webhook_token"),  # in whichever is asked after a message failed
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_what_is_taken_out_is_missed(tmp_path, broken):
    """The test of the test: it fails when something hides worse than it should."""
    place, secret = BROKEN[broken]
    world = World(tmp_path, broken=broken)
    await world.start()
    try:
        await world.until(
            lambda: {one.path.split("/")[1] for one in world.heard} >= {"hook", "api", "chat", "beat"}
        )
        world.ill = True
        await world.trouble(FaultKind.WRONG_TYPES)
        for _ in range(6):
            await world.post("/api/v1/test-alert", {})
        await world.look("at last")
        await world.end()
        world.collect()
    finally:
        await world.stop()
    found = world.found()
    assert any(one.startswith(f"{secret} in ") and place in one.partition(":")[0] for one in found), found[:5]


@pytest.mark.parametrize("name", ALL)
def test_the_search_finds_each_in_each_form(name):
    import base64
    from urllib.parse import quote

    secret = ALL[name]
    for text in (
        secret,
        quote(secret, safe=""),
        base64.b64encode(f"user:{secret}".encode()).decode(),
        repr(secret),
    ):
        [one] = search("here", f"before {text} after".encode())
        assert one.startswith(f"{name} in here")
    assert search("here", secret.encode(), allowed=[name]) == []
    assert set(TOLD) <= set(ALL)

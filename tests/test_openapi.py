"""docs/openapi.yaml: it is what it claims to be, it names what there is, and real answers are as it says."""

from __future__ import annotations

import json
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import aiohttp
import contract
import pytest
from contract import DOCUMENT, SCHEMAS
from jsonschema import Draft202012Validator
from pydantic import SecretStr
from receivers import MovedClock, ScriptedReceiver, notification
from samples import NOW

from monitor import notify, simulator, ultravox, web
from monitor.alerts import Policy
from monitor.choice import ANY, MOST_ROWS, Sort
from monitor.delivery import Delivery, Settings
from monitor.handover import Handover, Sharding
from monitor.metrics import Instruments
from monitor.model import (
    AlertName,
    BatchKey,
    CallStatus,
    DiscoveryStatus,
    FailureReason,
    MessageKind,
    Phase,
    Severity,
    State,
    Target,
)
from monitor.model.state import MOST_CHANGES
from monitor.notices import DROPPED
from monitor.notify import webhook
from monitor.poller import Book, Poller
from monitor.routing import Pacing, Route
from monitor.shards import Shard
from monitor.simulator import Fault, FaultKind
from monitor.store import AccountRecord, Change, Store
from monitor.surface import Surface
from monitor.targets import Watch
from monitor.ultravox import ApiSettings, Client
from monitor.web import ReloadRefusedError, answers, notifications
from monitor.web.server import _REQUEST_BODY_LIMIT, _application

# The document itself

TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
OBJECT = {"type": "object"}


def only(*needed, **known):
    return {"type": "object", "properties": known, "required": list(needed), "additionalProperties": False}


MEDIA = {
    "type": "object",
    "additionalProperties": only("schema", schema=OBJECT, examples=OBJECT),
    "minProperties": 1,
}
REFERENCE = only("$ref", **{"$ref": TEXT})
PARAMETER = only(
    "name",
    "in",
    "description",
    "schema",
    **{"in": {"enum": ["query", "path", "header"]}},
    name=TEXT,
    description=TEXT,
    required={"type": "boolean"},
    schema=OBJECT,
    style={"const": "form"},
    explode={"type": "boolean"},
    allowEmptyValue={"type": "boolean"},
    examples=OBJECT,
)
RESPONSE = {
    "anyOf": [
        REFERENCE,
        only("description", "content", description=TEXT, content=MEDIA, headers=OBJECT),
    ]
}
OPERATION = only(
    "operationId",
    "tags",
    "summary",
    "responses",
    operationId=TEXT,
    tags=TEXTS,
    summary=TEXT,
    description=TEXT,
    parameters={"type": "array", "items": {"anyOf": [REFERENCE, PARAMETER]}, "minItems": 1},
    requestBody=only("required", "content", required={"type": "boolean"}, content=MEDIA),
    responses={
        "type": "object",
        "propertyNames": {"pattern": r"^[2-5]\d\d$"},
        "additionalProperties": RESPONSE,
        "minProperties": 1,
    },
)
SHAPE = only(
    "openapi",
    "info",
    "servers",
    "security",
    "tags",
    "paths",
    "components",
    openapi={"pattern": r"^3\.1\.\d+$"},
    info=only(
        "title",
        "version",
        title=TEXT,
        summary=TEXT,
        description=TEXT,
        version=TEXT,
        license=only("name", name=TEXT, identifier=TEXT),
    ),
    servers={"type": "array", "items": only("url", url=TEXT, description=TEXT)},
    security={"const": []},
    tags={"type": "array", "items": only("name", "description", name=TEXT, description=TEXT)},
    paths={
        "type": "object",
        "propertyNames": {"pattern": "^/"},
        "additionalProperties": only(get=OPERATION, post=OPERATION),
    },
    components=only(
        parameters={"type": "object", "additionalProperties": PARAMETER},
        responses={"type": "object", "additionalProperties": RESPONSE},
        schemas={"type": "object", "additionalProperties": OBJECT},
    ),
)
"""As much of OpenAPI 3.1 as the document uses: what is misspelt is not in it."""

KEYWORDS = {
    *("$ref", "description", "examples", "default", "enum", "const", "type", "anyOf"),
    *("properties", "required", "additionalProperties", "propertyNames"),
    *("items", "minItems", "maxItems", "minLength", "minimum", "maximum", "format", "pattern"),
}


def schemas(node, *, inside=False):
    """Every schema of the document, those within others too."""
    if isinstance(node, list):
        for one in node:
            yield from schemas(one, inside=inside)
    elif isinstance(node, dict):
        if inside:
            yield node
        for name, value in node.items():
            if inside and name == "properties":
                yield from schemas(list(value.values()), inside=True)
            elif inside:
                yield from schemas(value, inside=True) if name not in {"examples", "default"} else ()
            elif name == "schemas":
                yield from schemas(list(value.values()), inside=True)
            else:
                yield from schemas(value, inside=name == "schema")


def test_it_has_the_form_of_openapi_3_1():
    Draft202012Validator(SHAPE).validate(DOCUMENT)


def test_every_schema_is_one_and_has_no_misspelt_keyword():
    found = list(schemas(DOCUMENT))
    assert len(found) > 150
    for schema in found:
        Draft202012Validator.check_schema(schema)
        assert schema.keys() <= KEYWORDS, schema


def test_every_reference_leads_somewhere_and_everything_is_referred_to():
    used = set()

    def follow(node):
        if isinstance(node, dict):
            if "$ref" in node:
                contract.resolved(node)
                used.add(node["$ref"])
            node = list(node.values())
        if isinstance(node, list):
            for one in node:
                follow(one)

    follow(DOCUMENT)
    assert used == {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses", "parameters")
        for name in DOCUMENT["components"][kind]
    }


def test_every_object_that_we_make_is_closed_and_every_key_of_an_answer_is_always_there():
    asked = {"TestRequest"}
    for name, schema in SCHEMAS.items():
        for one in schemas([schema], inside=True):
            if "properties" in one:
                assert one["additionalProperties"] is False, name
                assert name in asked or sorted(one["required"]) == sorted(one["properties"]), name
                assert set(one.get("required", ())) <= one["properties"].keys(), name


def test_operations_have_names_of_their_own_and_known_tags():
    found = [operation for _, _, operation in contract.operations()]
    names = [one["operationId"] for one in found]
    assert len(names) == len(set(names))
    assert {tag for one in found for tag in one["tags"]} == {tag["name"] for tag in DOCUMENT["tags"]}


def test_the_parameters_of_a_path_are_those_in_it():
    for path, method, operation in contract.operations():
        inside = [one["name"] for one in contract.parameters(operation) if one["in"] == "path"]
        assert inside == [part.strip("{}") for part in path.split("/") if part.startswith("{")], (
            method,
            path,
        )


@pytest.mark.parametrize("schema", ["MuteRequest", "TestRequest"])
def test_its_examples_are_what_it_describes(schema):
    for example in SCHEMAS[schema]["examples"]:
        contract.validator(SCHEMAS[schema]).validate(example)


def test_its_parameters_examples_and_defaults_are_what_it_describes():
    for _, _, operation in contract.operations():
        for one in contract.parameters(operation):
            examples = [example["value"] for example in one.get("examples", {}).values()]
            for value in [*examples, *([one["schema"]["default"]] if "default" in one["schema"] else [])]:
                contract.validator(one["schema"]).validate(value)


# It names what there is


def test_every_route_is_in_it_and_no_other():
    app = _application(*[SimpleNamespace()] * 4)
    served = {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.method != "HEAD"  # comes with GET
    }
    assert served == {(path, method) for path, method, _ in contract.operations()}


def parameters(path, method="get"):
    return {one["name"]: one["schema"] for one in contract.parameters(DOCUMENT["paths"][path][method])}


def values(names):
    return [one.value for one in names]


def test_its_enumerations_are_those_of_the_code():
    assert SCHEMAS["State"]["enum"] == values(State)
    assert SCHEMAS["Severity"]["enum"] == values(Severity)
    assert SCHEMAS["AlertName"]["enum"] == values(AlertName)
    assert SCHEMAS["FailureReason"]["enum"] == values(FailureReason)
    assert SCHEMAS["Alert"]["properties"]["state"]["enum"] == [Phase.PENDING.value, Phase.FIRING.value]
    assert set(SCHEMAS["Outcomes"]["required"]) == {"at", *(one.name.lower() for one in CallStatus)}
    of_notifications = SCHEMAS["Notification"]["properties"]
    assert of_notifications["why"]["enum"] == list(notifications._WHY.values())
    assert set(notifications._WHY) == set(values(MessageKind))
    assert of_notifications["alertname"]["anyOf"][1]["enum"][0] == DROPPED
    asked = parameters("/api/v1/batches")
    assert asked["sort"]["enum"] == [*values(Sort), *(f"-{one}" for one in values(Sort))]
    assert asked["firing"]["anyOf"][1]["enum"] == [ANY, ""]


def test_its_bounds_are_those_of_the_code():
    assert parameters("/api/v1/batches")["limit"]["anyOf"][0]["maximum"] == MOST_ROWS
    assert parameters("/api/v1/notifications")["limit"]["maximum"] == notifications.MOST_RECORDS
    assert (
        SCHEMAS["MuteRequest"]["properties"]["for_seconds"]["maximum"]
        == notifications.LONGEST_MUTE.total_seconds()
    )
    assert SCHEMAS["Batch"]["properties"]["recent_paces"]["maxItems"] == answers.RECENT_PACES
    explained = SCHEMAS["ExplainAnswer"]["properties"]["data"]["properties"]
    assert explained["changes"]["maxItems"] == MOST_CHANGES
    too_long = DOCUMENT["components"]["responses"]["TooLong"]["description"]
    assert f"{_REQUEST_BODY_LIMIT} bytes" in too_long


# Real answers are as it says

STORY = """
accounts:
  - name: main
    allowed_concurrent_calls: 400
    throttles: [{name: gentle, rules: [{max_calls: 10, window: 30m}]}]
    agents:
      - name: renewals
        batches:
          - {name: stalls, calls: 100, pace: 60/h, jitter: 0, window: {end: 5h}, script: [{at: 10m, do: stall}]}
          - {name: ended, created: -30m, calls: 40, pace: 60/h, jitter: 0, failing: {share: 0.2, error: SIP 486}}
          - {name: slow, calls: 100, pace: 40/h, jitter: 0, window: {start: 0s, end: 50m}, ends_late: 8m}
          - {name: throttled, calls: 200, pace: 60/h, jitter: 0, throttle: gentle}
          - {name: open, calls: 500, pace: 60/h, jitter: 0}
          - {name: fails, calls: 500, pace: 60/h, jitter: 0}
          - {name: unseen, created: 10h, calls: 5}
          - {name: gone, calls: 500, pace: 60/h, jitter: 0, script: [{at: 5m, do: delete}]}
          - {name: paused, calls: 500, paused: true, window: {start: 0s, end: 5h}}
          - {name: waits, calls: 500, window: {start: 5h, end: 8h}}
          - {name: empty, calls: 0}
  - {name: agency, agents: [{name: outreach, batches: [{name: never, calls: 5}]}]}
  - {name: new, agents: [{name: concierge, batches: [{name: later, calls: 5}]}]}
"""

AT_ONCE = Pacing(group_wait=timedelta(0), max_messages_per_minute=6000)


class Monitor:
    """A real poller, store, delivery and surface on a moved clock; the pretend Ultravox and receivers on loopback."""

    def __init__(self, folder, crm, ops) -> None:
        self.clock = MovedClock()
        self.scenario = simulator.load(STORY)
        self.pretend = simulator.Simulator(self.scenario, clock=self.clock)
        self.crm, self.ops = crm, ops
        self.instruments = Instruments(
            endpoints=ultravox.ENDPOINTS, send_failures=notify.FAILURES, now=self.clock()
        )
        self.store = Store(folder / "monitor.db", clock=self.clock)
        self.delivery = Delivery(
            self.store, clock=self.clock, instruments=self.instruments, jitter=lambda top: top
        )
        self.book = Book(
            store=self.store,
            instruments=self.instruments,
            clock=self.clock,
            deliver=self.delivery.enqueue,
        )
        self.poller = Poller(self.book)
        self.handover = Handover(
            Sharding(Shard(0, 3), "http://monitor-{shard}.test:10042"), self.book, self.delivery, self.store
        )
        self.refuses: str | None = None
        self.lives = self.polled = True
        self.surface = Surface(
            self.book,
            SimpleNamespace(
                discoveries=lambda: (DiscoveryStatus("main", NOW, 12), DiscoveryStatus("new")),
                attempted_all=lambda: self.polled,
            ),
            self.delivery,
            self.store,
            SimpleNamespace(alive=lambda: self.lives),
            self.handover,
            self.clock,
            reload=self.reload,
            started_at=NOW,
        )
        self.seen: set[tuple[int, str, bool]] = set()
        self.answered: set[tuple[str, str, int]] = set()

    async def reload(self) -> None:
        if self.refuses:
            self.surface.reload_error = self.refuses
            raise ReloadRefusedError(self.refuses)

    async def open(self) -> None:
        base_url = await self.pretend.start()
        contents = await self.store.open()
        self.book.restore(contents)
        self.delivery.restore(contents)
        self.delivery._turns.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        self.delivery._employ = lambda queue: None
        told = {
            "crm": Settings(webhook.Settings(SecretStr(self.crm.url)), pacing=AT_ONCE),
            "ops": Settings(webhook.Settings(SecretStr(self.ops.url)), pacing=AT_ONCE),
            "critical": Settings(
                webhook.Settings(SecretStr(self.crm.url)), route=Route(severity_at_least=Severity.CRITICAL)
            ),
        }
        self.book.receivers = self.delivery.set_receivers(told)
        self.told = told
        self.keys = {}
        for account in self.scenario.accounts:
            settings = ApiSettings(
                account.name, SecretStr(account.api_key), base_url, max_requests_per_second=10_000
            )
            await self.book.watch_account(account.name, Client(settings, clock=self.clock), Policy())
            for agent in account.agents:
                for batch in agent.batches:
                    key = BatchKey(str(agent.agent_id), str(batch.batch_id))
                    self.keys[batch.name] = key
                    self.book.watch(
                        Watch(Target(account.name, key, batch.name, labels=(("team", "growth"),)))
                    )
                    self.book.statuses[key] = self.book.statuses[key].due(self.clock() + timedelta(minutes=1))
        self.runner = await web.serve(web.Settings("127.0.0.1", 0), self.surface, self.instruments)
        self.runner.open()
        self.session = aiohttp.ClientSession(f"http://127.0.0.1:{self.runner.addresses[0][1]}")

    async def close(self) -> None:
        await self.session.close()
        await self.runner.cleanup()
        await self.poller.stop()
        await self.delivery.stop(timedelta(0))
        for account in self.book.accounts.values():
            await account.client.close()
        await self.store.close()
        await self.pretend.stop()

    async def live(self, minutes: int) -> None:
        for _ in range(minutes):
            self.clock.move(minutes=1)
            for account in ("main", "agency"):
                await self.poller.probe_account(account)
            for name, key in self.keys.items():
                if name not in {"later", "empty"}:
                    await self.poller.poll_batch(key)

    async def turn(self, *names: str) -> None:
        for name in names:
            await self.delivery._turns.take(self.delivery._queues[name])

    async def ask(self, path, method="GET", *, of=None, code=200, **options):
        """An answer, which must be one that the document describes. `of`: the path as the document has it."""
        of = of or path.partition("?")[0]
        async with self.session.request(method, path, **options) as answer:
            body = await answer.text()
            assert answer.status == code, body
            content_type = answer.headers["Content-Type"]
        value = json.loads(body) if content_type.startswith("application/json") else body
        schema = contract.declared(of, method, code, content_type)
        contract.validator(schema).validate(value)
        self.seen |= set(contract.visited(schema, value))
        self.answered.add((of, method.lower(), code))
        return value

    async def look(self) -> None:
        """Everything that the page, the terminal and scripts look at."""
        for path in (
            "/api/v1/batches",
            "/api/v1/alerts",
            "/api/v1/notifications?limit=1000",
            "/api/v1/mutes",
        ):
            await self.ask(path)
        for key in self.keys.values():
            await self.ask(f"/api/v1/explain?batch_id={key.batch_id}")
            await self.ask(f"/batches/{key.batch_id}", of="/batches/{batch_id}")
        await self.ask("/")


@asynccontextmanager
async def day(folder):
    crm, ops = ScriptedReceiver(), ScriptedReceiver()
    await crm.start()
    await ops.start()
    monitor = Monitor(folder, crm, ops)
    await monitor.open()
    try:
        yield monitor
    finally:
        await monitor.close()
        await crm.stop()
        await ops.stop()


@pytest.fixture
async def monitor(tmp_path):
    async with day(tmp_path) as made:
        yield made


def states(answer):
    return {one["batch"]: one["state"] for one in answer["data"]["batches"]}


async def live_through(monitor):
    """A day in which everything happens: what is looked at on the way must be as the document says."""
    await monitor.look()  # before the first poll
    await monitor.ask("/api/v1/handover")
    monitor.book.remember(AccountRecord("leaver", NOW), ())
    monitor.handover.leaving.add("leaver")
    await monitor.ask("/api/v1/handover?account=leaver")
    monitor.pretend.add_fault(Fault(kind=FaultKind.UNAUTHORIZED, account="agency", **{"from": 0}))
    await monitor.poller.poll_batch(monitor.keys["empty"])
    await monitor.live(3)
    await monitor.look()
    monitor.pretend.add_fault(Fault(kind=FaultKind.SERVER_ERROR, batch="fails", **{"from": 0}))
    await monitor.live(25)
    await monitor.poller.evidence.read_outcomes(monitor.keys["ended"])
    monitor.book.statuses[monitor.keys["ended"]] = monitor.book.statuses[monitor.keys["ended"]].due(None)
    monitor.ops.script.extend([503] * 3)
    await monitor.turn("crm", "ops", "critical")
    await monitor.surface.mute(monitor.keys["open"].batch_id, monitor.clock() + timedelta(hours=1))
    await monitor.surface.mute(
        str(uuid.uuid4()), monitor.clock() + timedelta(hours=1)
    )  # of what is watched no more
    await monitor.look()
    found = states(await monitor.ask("/api/v1/batches"))
    await monitor.live(25)
    await monitor.look()
    found |= {"overdue": states(await monitor.ask("/api/v1/batches"))["slow"]}
    await monitor.live(10)
    row = notification(1, kind=MessageKind.RESOLVED, receiver="crm", created_at=monitor.clock())
    late = notification(2, kind=MessageKind.REMINDER, receiver="left", created_at=monitor.clock())
    await monitor.store.commit(Change(notifications=(row, late)))
    monitor.delivery.enqueue((row, late))
    await monitor.turn("crm")
    await monitor.look()
    found |= {"ended in the end": states(await monitor.ask("/api/v1/batches"))["slow"]}
    monitor.ops.script.extend([503] * 9)
    monitor.clock.move(hours=25)
    await monitor.turn("ops", "crm")
    await monitor.look()
    return found


async def test_every_answer_of_a_full_day_is_as_it_says_with_every_key_known_and_unknown(monitor):
    found = await live_through(monitor)
    assert found == {
        "stalls": "stalled",
        "ended": "ended",
        "slow": "running",
        "throttled": "running",
        "open": "running",
        "fails": "running",
        "unseen": "unknown",
        "gone": "gone",
        "paused": "paused",
        "waits": "waiting",
        "empty": "ended",
        "never": "unknown",
        "later": "unknown",
        "overdue": "overdue",
        "ended in the end": "incomplete",
    }
    told = (await monitor.ask("/api/v1/notifications?limit=1000"))["data"]["notifications"]
    assert {one["status"] for one in told} == {"delivered", "dropped", "overtaken", "waiting"}
    assert {one["why"] for one in told} >= {"first", "resolved", "reminder"}
    assert DROPPED in {one["alertname"] for one in told}
    monitor.refuses = "config.yaml:3:5: accounts[0].name: missing"
    await monitor.ask("/-/reload", "POST", code=500)
    await monitor.ask("/api/v1/batches")
    for name, until in (("crm", 200), ("ops", 503)):
        monitor.ops.script.clear()
        monitor.ops.script.append(until)
        await monitor.ask("/api/v1/test-alert", "POST", json={"receiver": name})
    await monitor.ask(
        "/api/v1/mutes", "POST", json={"batch_id": monitor.keys["open"].batch_id, "for_seconds": 0}
    )

    expected = {
        (node, where, name, null)
        for node, where, name, nullable in contract.properties()
        if not where.startswith(("MuteRequest", "TestRequest", "Error"))
        for null in {False, nullable}
    }
    never = [
        f"{where}.{name} is {'null' if null else 'known'}"
        for node, where, name, null in sorted(expected)
        if (node, name, null) not in monitor.seen
    ]
    assert not never, "\n".join(never)


JSON = {"Content-Type": "application/json"}


def batch(monitor):
    return monitor.keys["open"].batch_id


QUESTIONS = [
    ("GET", "/api/v1/batches?state=waiting,ended&account=main&q=team&sort=-pace&limit=1&page=9&firing=", 200),
    ("GET", "/api/v1/batches?state=&account=&q=&limit=&page=", 200),
    ("GET", "/api/v1/batches?state=asleep", 400),
    ("GET", "/api/v1/batches?sort=best", 400),
    ("GET", "/api/v1/batches?firing=Fire", 400),
    ("GET", "/api/v1/batches?limit=1001", 400),
    ("GET", "/api/v1/batches?page=0", 400),
    ("GET", "/api/v1/alerts", 200),
    ("GET", "/api/v1/alerts?state=firing&limit=1", 200),
    ("GET", "/api/v1/alerts?state=&limit=", 200),
    ("GET", "/api/v1/alerts?state=told", 400),
    ("GET", "/api/v1/alerts?limit=1001", 400),
    ("GET", "/api/v1/explain", 400),
    ("GET", "/api/v1/explain?batch_id=zz", 404),
    ("GET", "/api/v1/explain?batch_id=BATCH", 200),
    ("GET", "/api/v1/notifications", 200),
    ("GET", "/api/v1/notifications?limit=0", 400),
    ("GET", "/api/v1/notifications?before=0001-01-01T00:00:00%2B14:00", 200),
    ("GET", "/api/v1/notifications?before=9999-12-31T23:59:59-14:00", 200),
    ("GET", "/api/v1/mutes", 200),
    ("GET", "/api/v1/handover", 200),
    ("GET", "/api/v1/handover?account=", 200),
    ("GET", "/api/v1/handover?account=main", 404),
    ("GET", "/metrics", 200),
    ("GET", "/-/healthy", 200),
    ("GET", "/-/ready", 200),
    ("POST", "/-/reload", 200),
    ("GET", "/", 200),
    ("GET", "/?state=asleep", 400),
    ("GET", "/batches/BATCH", 200),
    ("GET", "/batches/zz", 404),
    ("GET", "/static/page.css", 200),
    ("GET", "/static/page.js", 200),
    ("GET", "/static/favicon.svg", 200),
    ("GET", "/static/page.exe", 404),
    ("GET", "/favicon.ico", 200),
]
COMMANDS = [
    ("/api/v1/mutes", {"json": {"batch_id": "BATCH", "for_seconds": 0.5}}, 200),
    ("/api/v1/mutes", {"json": {"batch_id": "BATCH", "for_seconds": "1h"}}, 400),
    ("/api/v1/mutes", {"data": '{"batch_id": "BATCH", "for_seconds": NaN}', "headers": JSON}, 400),
    ("/api/v1/mutes", {"json": {"batch_id": "zz", "for_seconds": 60}}, 404),
    ("/api/v1/mutes", {"data": "[" * 5000, "headers": JSON}, 413),
    ("/api/v1/mutes", {"data": "{}"}, 415),
    ("/api/v1/test-alert", {"json": {}}, 200),
    ("/api/v1/test-alert", {"json": {"receiver": None}}, 200),
    ("/api/v1/test-alert", {"json": {"receiver": 7}}, 400),
    ("/api/v1/test-alert", {"json": {"receiver": "nobody"}}, 404),
    ("/api/v1/test-alert", {"data": "[" * 5000, "headers": JSON}, 413),
    ("/api/v1/test-alert", {"data": "{}"}, 415),
]


async def test_every_answer_that_it_names_is_given_and_errors_are_as_it_says(monitor):
    def named(text):
        return text.replace("BATCH", batch(monitor))

    monitor.lives = monitor.polled = False
    for path in ("/-/healthy", "/-/ready"):
        await monitor.ask(path, code=503)
    monitor.lives = monitor.polled = True
    for method, path, code in QUESTIONS:
        of = next(
            (of for of in DOCUMENT["paths"] if "{" in of and path.startswith(of.partition("{")[0])), None
        )
        await monitor.ask(named(path), method, of=of, code=code)
    for path, body, code in COMMANDS:
        await monitor.ask(path, "POST", code=code, **json.loads(named(json.dumps(body))))
    monitor.refuses = "config.yaml:3:5: accounts[0].name: missing"
    await monitor.ask("/-/reload", "POST", code=500)
    assert monitor.answered == {
        (path, method, int(code))
        for path, method, operation in contract.operations()
        for code in operation["responses"]
    }


async def test_metrics_come_in_both_formats_that_it_names(monitor):
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        async with monitor.session.get("/metrics", headers={"Accept": accept}) as answer:
            assert contract.declared("/metrics", "get", 200, answer.headers["Content-Type"])
            assert "Vary" in answer.headers


async def test_several_batches_that_begin_alike_are_a_wrong_question_and_a_missing_page(monitor):
    key = monitor.keys["open"]
    double = replace(
        monitor.book.statuses[key], target=Target("main", BatchKey(key.agent_id, f"{key.batch_id[:-1]}x"))
    )
    monitor.book.statuses[double.key] = double
    monitor.book.watches[double.key] = Watch(double.target)
    part = key.batch_id[:-1]
    await monitor.ask(f"/api/v1/explain?batch_id={part}", code=400)
    await monitor.ask("/api/v1/mutes", "POST", json={"batch_id": part, "for_seconds": 60}, code=400)
    await monitor.ask(f"/batches/{part}", of="/batches/{batch_id}", code=404)

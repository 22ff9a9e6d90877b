"""The guides for people: every command, query, configuration, link and answer in them is a real one."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import contract
import promql
import pytest
import yaml
from commands import COMMANDS

from monitor import config, notify

ROOT = Path(__file__).parent.parent
GUIDES = sorted(ROOT / "docs" / f"{name}.md" for name in ("getting-started", "http-api", "troubleshooting"))
API = ROOT / "docs/http-api.md"
ENVIRON = {"ULTRAVOX_API_KEY": "Zk3hQ9aB.0123456789abcdef", "PHONE_URL": "ntfy://campaigns-7c1e94b2f05d"}
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
HERE = "http://localhost:10042"


def stem(page):
    return page.stem


def typed(page):
    """What a guide has one type: in ```sh fences."""
    return [(page, line) for line in promql.lines(page, "sh")]


@pytest.mark.parametrize(
    ("page", "line"), [pair for page in GUIDES for pair in typed(page)], ids=lambda value: str(value)[-50:]
)
def test_every_command_exists_with_these_options(page, line):
    words = shlex.split(line.replace(".venv/bin/python -m monitor", "batch-monitor"), comments=True)
    match words:
        case ["batch-monitor", name, *arguments]:
            COMMANDS[name].make_context(name, arguments)
        case ["make", target, *settings]:
            assert target in TARGETS
            assert all(re.fullmatch(r"CONFIG=[\w.]+", one) for one in settings)
        case ["export", setting]:
            assert setting.partition("=")[0] in ENVIRON
        case ["curl", *_]:
            asks_for_what_there_is(words)
        case ["cd", "deploy/compose", "&&", *command]:
            # tests/deploy/test_compose.py runs it
            assert line in (ROOT / "docs/install.md").read_text(encoding="utf-8")
            assert command[:2] == ["docker", "compose"]
        case _:
            pytest.fail(f"{page.name}: nobody knows whether this works: {line}")


def asks_for_what_there_is(words):
    url = urlsplit(next(word for word in words if word.startswith("http")))
    assert f"{url.scheme}://{url.netloc}" == HERE
    method = words[words.index("-X") + 1].lower() if "-X" in words else "get"
    operation = contract.DOCUMENT["paths"][url.path][method]
    known = {one["name"]: one["schema"] for one in contract.parameters(operation)}
    for name, [text] in parse_qs(url.query, strict_parsing=bool(url.query)).items():
        value = text.split(",") if known[name].get("type") == "array" else text
        value = int(text) if text.isdecimal() else value
        contract.validator(known[name]).validate(value)
    if "requestBody" in operation:
        assert "Content-Type: application/json" in words
        body = json.loads(words[words.index("-d") + 1])
        contract.validator(operation["requestBody"]["content"]["application/json"]["schema"]).validate(body)


@pytest.mark.parametrize("page", GUIDES, ids=stem)
def test_the_promql_asks_for_what_there_is(page):
    for query in promql.lines(page, "promql"):
        assert promql.mistakes(query) == [], query


@pytest.mark.parametrize("page", GUIDES, ids=stem)
def test_what_it_shows_of_a_configuration_is_one(page, tmp_path):
    for block in promql.fenced(page, "yaml"):
        file = tmp_path / "config.yaml"
        shown = {"accounts": [{"name": "main", "api_key": "${ULTRAVOX_API_KEY}"}]} | yaml.safe_load(block)
        file.write_text(yaml.safe_dump(shown))
        found = config.load(file, ENVIRON)
        assert all(
            isinstance(one.channel, notify.CHANNELS["apprise"].Settings) for one in found.receivers.values()
        )


@pytest.mark.parametrize("page", [*GUIDES, ROOT / "docs/README.md", ROOT / "README.md"], ids=stem)
def test_every_heading_that_is_linked_to_exists(page):
    for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        headings = re.findall(
            r"^#+ (.*)$",
            ((page.parent / target) if target else page).read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        assert heading in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, heading


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {
        path.name
        for path in (ROOT / "docs").glob("*.*")
        if path.suffix in {".md", ".yaml"} and path.name != "README.md"
    }
    folders = {f"{path.parent.name}/README.md" for path in (ROOT / "docs").glob("*/README.md")}
    assert {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", index)} >= pages | folders


# The page on the API


def answers():
    """Each answer that the page shows: of which operation, and what."""
    text = API.read_text(encoding="utf-8")
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL):
            commands = [
                line for line in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0].splitlines() if line
            ]
            words = shlex.split(commands[-1])
            url = urlsplit(next(word for word in words if word.startswith("http")))
            yield url.path, "post" if "-X" in words else "get", json.loads(block)


def shortened(schema):
    """The same, with whatever keys left out."""
    if isinstance(schema, dict):
        found = contract.resolved(schema) if "$ref" in schema else schema
        return {name: shortened(value) for name, value in found.items() if name != "required"}
    return [shortened(one) for one in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize(("path", "method", "answer"), list(answers()), ids=lambda value: str(value)[:30])
def test_the_answers_that_are_shown_are_parts_of_real_ones(path, method, answer):
    schema = contract.declared(path, method, 200, "application/json")
    contract.validator(shortened(schema)).validate(answer)


def test_the_page_speaks_of_every_route_parameter_and_error():
    text = API.read_text(encoding="utf-8")
    for path, method, operation in contract.operations():
        assert f"{method.upper()} {path}" in text, (method, path)
        for one in contract.parameters(operation):
            assert re.search(rf"`[^`]*\b{one['name']}\b[^`]*`|[?&]{one['name']}=", text) or one["name"] == "v"
    errors = dict(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", text, re.MULTILINE))
    assert set(errors.values()) == set(contract.SCHEMAS["Error"]["properties"]["errorType"]["enum"])


def test_it_says_how_often_the_page_asks():
    script = (ROOT / "monitor/web/templates/page.js").read_text(encoding="utf-8")
    [every] = re.findall(r"const EVERY = (\d+);", script)
    assert f"| the pages | themselves | {int(every) // 1000} s," in API.read_text(encoding="utf-8")


# What troubleshooting quotes


def test_what_is_quoted_of_logs_and_pages_is_said_by_them():
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    sources = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "monitor").rglob("*")
        if path.suffix in {".py", ".html", ".js"}
    )
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    quoted = [part.strip() for one in re.findall(r'"([^"\n]+)"', prose) for part in one.split("…")]
    quoted += re.findall(r"log has `([^`]+)`", text)
    quoted += [
        cell.strip("… ")
        for cell in re.findall(
            r"^\| (… fires and says more|pending|switched off|nothing was seen[^|]*) \|", text, re.MULTILINE
        )
    ]
    assert len(quoted) >= 12
    for one in filter(None, quoted):
        assert one in sources, one

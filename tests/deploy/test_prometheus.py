"""The rules and routes as promtool, amtool, a real Prometheus and a real Alertmanager take them.

PROMTOOLS and AMTOOLS name more of these programs than those on PATH, separated by colons.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from contextlib import asynccontextmanager

import aiohttp
import promql
import pytest
import test_rules
import yaml
from containers import ROOT, command
from test_runbooks import PAGES
from test_stack import eventually, free_port, process, program, stage

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]

DEPLOY = ROOT / "deploy"
RULES = [
    DEPLOY / "prometheus/rules/ultravox-batch-monitor.yml",
    DEPLOY / "prometheus/batches/ultravox-batches.yml",
]
CASES = sorted((DEPLOY / "prometheus/tests").glob("*.yml"))
ROUTES = DEPLOY / "alertmanager/alertmanager.yml"


def programs(name, variable):
    return [name, *filter(None, os.environ.get(variable, "").split(":"))]


@pytest.fixture(params=programs("promtool", "PROMTOOLS"))
def promtool(request):
    return program(request.param)


@pytest.fixture(params=programs("amtool", "AMTOOLS"))
def amtool(request):
    return program(request.param)


def with_rules(folder, *files):
    """The shipped prometheus.yml in a folder, reading these rules there instead of those in /etc."""
    rules = folder / "rules"
    rules.mkdir()
    for file in files:
        shutil.copy(file, rules)
    shipped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert shipped["rule_files"] == ["/etc/prometheus/rules/*.yml"]
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(shipped | {"rule_files": [f"{rules}/*.yml"]}))
    return config


def test_promtool_has_nothing_to_say(promtool, tmp_path, figures):
    checked = command(promtool, "check", "config", str(with_rules(tmp_path, *RULES)))
    assert "SUCCESS" in checked
    counts = re.findall(
        r"(\d+) rules found",
        command(promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES)),
    )
    assert sum(map(int, counts)) == len(test_rules.MONITOR) + len(test_rules.BATCHES)
    for file in CASES:  # older ones say nothing of the second file
        assert "SUCCESS" in command(promtool, "test", "rules", str(file))
    version = command(promtool, "--version").split()[2]
    number = sum(len(cases) for _, cases in test_rules.TESTED.values())
    figures.append(f"promtool {version}: {' + '.join(counts)} rules, {number} cases")


def test_a_rule_that_is_wrong_fails_its_cases(promtool, tmp_path):
    shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    rules = tmp_path / "prometheus/rules/ultravox-batch-monitor.yml"
    rules.write_text(rules.read_text().replace("ultravox_account_up == 0", "ultravox_account_up == 7"))
    with pytest.raises(AssertionError, match="UltravoxMonitorDataStale"):
        command(promtool, "test", "rules", str(tmp_path / "prometheus/tests/ultravox-batch-monitor.yml"))


def test_amtool_has_nothing_to_say(amtool, tmp_path, figures):
    assert "SUCCESS" in command(amtool, "check-config", str(ROUTES))
    filled = tmp_path / "filled.yml"  # what stands there as examples, taken in
    filled.write_text(re.sub(r"^    # ", "    ", ROUTES.read_text(), flags=re.MULTILINE))
    assert "slack_configs" in yaml.safe_load(filled.read_text())["receivers"][1]
    assert "SUCCESS" in command(amtool, "check-config", str(filled))
    figures.append(
        f"amtool {command(amtool, '--version').split()[2]}: alertmanager.yml as it is and filled in"
    )


@pytest.mark.parametrize(
    ("severity", "receiver"),
    [("critical", "wake"), ("warning", "chat"), ("info", "quiet"), ("", "chat")],
)
def test_who_is_told(amtool, severity, receiver):
    labels = ["alertname=BatchStalled", "account=main", *([f"severity={severity}"] if severity else [])]
    told = command(
        amtool,
        "config",
        "routes",
        "test",
        f"--config.file={ROUTES}",
        f"--verify.receivers={receiver}",
        *labels,
    )
    assert told.split()[0] == receiver


def test_as_it_ships_nobody_is_told():
    assert all(receiver.keys() == {"name"} for receiver in yaml.safe_load(ROUTES.read_text())["receivers"])


# A real Prometheus, a real Alertmanager


@asynccontextmanager
async def prometheus(folder, config):
    """A Prometheus with this configuration; yields how to ask its API, and its address."""
    url = f"http://127.0.0.1:{free_port()}"
    options = (
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--web.enable-lifecycle",
    )
    async with process(folder, "prometheus", program("prometheus"), *options), asking(url) as ask:
        await eventually("Prometheus answers", lambda: ask("status/config"), within=30)
        yield ask, url


@asynccontextmanager
async def alertmanager(folder):
    """An Alertmanager with the shipped configuration, but no time to wait; yields its address."""
    url = f"http://127.0.0.1:{free_port()}"
    config = yaml.safe_load(ROUTES.read_text())
    config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    file = folder / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    options = (
        f"--config.file={file}",
        f"--storage.path={folder / 'am'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    )
    async with process(folder, "alertmanager", program("prometheus-alertmanager"), *options):
        async with aiohttp.ClientSession() as session:

            async def ready():
                try:
                    async with session.get(f"{url}/-/ready") as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await eventually("Alertmanager answers", ready, within=30)
        yield url


@asynccontextmanager
async def asking(url):
    """A function that asks an API of Prometheus' kind and returns the `data`; None while nobody answers."""
    async with aiohttp.ClientSession() as session:

        async def ask(what, **query):
            try:
                async with session.get(f"{url}/api/v1/{what}", params=query) as answer:
                    return (await answer.json())["data"]
            except (aiohttp.ClientConnectionError, aiohttp.ContentTypeError):
                return None

        yield ask


def live(config, *, monitor, alertmanager):
    """Point the shipped configuration at these, and make a second of what are fifteen."""
    document = yaml.safe_load(config.read_text())
    document["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    addresses = {"monitor:10042": monitor, "alertmanager:9093": alertmanager}
    text = yaml.safe_dump(document)
    for named, address in addresses.items():
        assert named in text
        text = text.replace(named, address.removeprefix("http://"))
    config.write_text(text)


async def test_a_real_prometheus_takes_every_rule_and_tells_what_the_daemon_would_tell(tmp_path, figures):
    config = with_rules(tmp_path, *RULES)
    async with (
        alertmanager(tmp_path) as am_url,
        stage(tmp_path, end="10m", recover="9m", receivers=[]) as staged,
    ):
        live(config, monitor=staged.url, alertmanager=am_url)
        labelled = yaml.safe_load(staged.config.read_text())
        labelled["accounts"][0]["batches"][0]["labels"] = {"team": "growth", "region": "north of it"}
        staged.config.write_text(yaml.safe_dump(labelled))
        async with prometheus(tmp_path, config) as (ask, _):

            async def told():
                data = await ask("alerts")
                return [
                    one
                    for one in data["alerts"]
                    if one["state"] == "firing" and one["labels"]["alertname"] == "BatchStalled"
                ]

            async with staged.daemon(), asking(staged.url) as ask_daemon:
                [alert] = await eventually("Prometheus tells of the stall", told, within=60)
                [of_daemon] = [
                    one
                    for one in (await ask_daemon("alerts"))["alerts"]
                    if one["alertname"] == "BatchStalled"
                ]
                assert alert["labels"] == of_daemon["labels"]
                assert alert["labels"].keys() > {"team", "region", "batch_id", "severity"}
                assert alert["annotations"]["summary"] == "spring makes no calls although it should"

                groups = (await ask("rules"))["groups"]
                found = [rule for group in groups for rule in group["rules"]]
                assert [rule["name"] for rule in found if rule["health"] != "ok"] == []
                assert {rule["name"] for rule in found} == {
                    test_rules.name(rule) for rule in test_rules.MONITOR + test_rules.BATCHES
                }
                [up] = (await ask("query", query='up{job="ultravox-batch-monitor"}'))["result"]
                assert up["value"][1] == "1"

                async def routed():
                    async with (
                        aiohttp.ClientSession() as session,
                        session.get(f"{am_url}/api/v2/alerts") as answer,
                    ):
                        return [
                            receiver["name"]
                            for one in await answer.json()
                            for receiver in one["receivers"]
                            if one["labels"]["alertname"] == "BatchStalled"
                        ]

                assert await eventually("Alertmanager has it", routed, within=30) == ["chat"]
                figures.append(
                    f"Prometheus: {len(found)} rules healthy; BatchStalled with the daemon's {len(alert['labels'])} labels"
                )

            async def gone():
                result = (await ask("query", query="ultravox_batch_alert_firing"))["result"]
                return not result

            await eventually("the daemon's word is gone", gone, within=30)
            assert [one["labels"] for one in await told()] == [
                alert["labels"]
            ]  # and stands for a quarter of an hour


async def test_the_commands_of_the_pages_work(tmp_path):
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    etc = tmp_path / "etc"
    etc.mkdir()
    with_rules(etc)
    async with alertmanager(tmp_path) as am_url, prometheus(tmp_path, etc / "prometheus.yml") as (ask, url):

        def run(line):
            for named, here in (
                ("http://localhost:9090", url),
                ("http://localhost:9093", am_url),
                ("/etc/prometheus", str(etc)),
            ):
                line = line.replace(named, here)
            return command("bash", "-ec", line, cwd=tmp_path)

        typed = promql.lines(ROOT / "docs/prometheus.md", "sh")
        assert len(typed) == 10
        for line in typed:
            run(line)
        links = "".join(path.read_text() for path in (tmp_path / "deploy/prometheus").glob("*/*.yml"))
        assert "wiki.example" not in links
        assert "grafana.example" not in links
        run("curl -sf -X POST http://localhost:9090/-/reload")
        assert len((await ask("rules"))["groups"]) == 2

        silences = [line for page in PAGES for line in promql.lines(page, "sh") if line.startswith("amtool")]
        assert silences
        for line in silences:
            run(line)
        [matched] = {shlex.split(line)[0] for line in silences}
        held = json.loads(run(f"{matched} --alertmanager.url=http://localhost:9093 silence query -o json"))
        names = {
            matcher["value"] for one in held for matcher in one["matchers"] if matcher["name"] == "alertname"
        }
        assert names == {
            page.stem for page in PAGES if any(line.startswith("amtool") for line in promql.lines(page, "sh"))
        }

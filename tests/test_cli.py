"""The command line, as its user meets it: exit codes, what is printed, where."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import COMMANDS
from samples import NOW, account, status

from monitor import __version__, remote
from monitor.alerts import KINDS, Policy
from monitor.choice import Choice, choose
from monitor.cli import cli, completing
from monitor.explain import explain
from monitor.model import Snapshot
from monitor.web import answers

ROOT = Path(__file__).parent.parent
KEY = {"ULTRAVOX_API_KEY": "Zk3hQ9aB.0123456789abcdef0123456789abcdef"}


def run(*arguments, **environ):
    return CliRunner().invoke(cli, arguments, env=environ, prog_name="batch-monitor")


@pytest.fixture
def daemon():
    """Something that answers as a daemon does; its URL."""
    snapshot = Snapshot(NOW, (status(),), (account(),))
    foreign = {"/list/api/v1/batches": [], "/null/api/v1/batches": {"data": None}}
    foreign |= {"/empty/api/v1/batches": {"data": {}}, "/empty/api/v1/alerts": {"data": {}}}
    paths = foreign | {
        "/-/healthy": "healthy",
        "/api/v1/batches": answers.batches(snapshot, choose(snapshot.batches, Choice())),
        "/api/v1/alerts": answers.alerts(snapshot),
        "/api/v1/explain?batch_id=3c90": answers.explanations(
            status(), explain(status(), account(), Policy(), NOW), NOW
        ),
        "/nothing/api/v1/batches": answers.batches(snapshot, choose((), Choice())),
        "/nothing/api/v1/alerts": answers.alerts(snapshot),
        "/odd/api/v1/explain?batch_id=3c90": {"data": {"batch": {}}},
    }
    refused = {"/api/v1/explain?batch_id=zzz": answers.error("not_found", "no watched batch has this id")}

    unhealthy = {f"/{code}/-/healthy": code for code in (404, 503)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if code := unhealthy.get(self.path):
                self.send_response(code)
                self.end_headers()
                self.wfile.write(f"unhealthy, says the daemon of {code}\n".encode())
                return
            path = self.path if "explain" in self.path else self.path.partition("?")[0]
            found = paths.get(path) or refused.get(path)
            self.send_response(200 if path in paths else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_healthy_daemon(daemon, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody's; localhost is not asked through it
    found = run("healthcheck", "--url", daemon)
    assert (found.exit_code, found.output) == (0, "healthy\n")


@pytest.mark.parametrize("code", [404, 503])
def test_a_daemon_that_says_it_is_not_healthy(daemon, code):
    found = run("healthcheck", "--url", f"{daemon}/{code}")
    assert (found.exit_code, found.stdout, found.stderr) == (1, "", f"unhealthy, says the daemon of {code}\n")


def test_a_health_check_without_a_daemon():
    found = run("healthcheck", "--url", "http://127.0.0.1:9")
    assert found.exit_code == 1
    assert found.stderr.startswith("unhealthy: no daemon answers at http://127.0.0.1:9 (")


def test_a_health_check_is_quick_because_it_imports_little():
    code = "import sys, monitor.cli; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert not {"aiohttp", "asyncio", "pydantic", "prometheus_client", "rich"} & set(found.stdout.split())


def test_the_simulator_ends_by_sigterm_with_exit_code_0():
    command = [sys.executable, "-m", "monitor", "simulate", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
        assert "pretend Ultravox at http://127.0.0.1:" in simulator.stdout.readline()
        simulator.terminate()
        assert simulator.wait(20) == 0


def test_the_version():
    assert run("--version").output == f"batch-monitor, version {__version__}\n"


def test_check_config_of_the_example():
    path = str(ROOT / "config.example.yaml")
    found = run("check-config", path, **KEY)
    assert (found.exit_code, found.output) == (
        0,
        f"{path}: no mistakes: 1 account, 1 batch and all that are found in 1 account, 2 receivers\n",
    )


def test_check_config_tells_mistakes_on_stderr_with_exit_code_1(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("accounts: []\npoll: {interval: 30}\n")
    found = run("check-config", str(path))
    assert found.exit_code == 1
    assert found.stdout == ""
    assert found.stderr.splitlines() == [
        f"{path}:1:11: accounts: must not be empty",
        f"{path}:2:18: poll.interval: a duration needs a unit: write it like 30s, 5m or 1h30m",
    ]


def test_a_first_run_without_anything_says_how_to_go_on():
    found = run("run")
    assert found.exit_code == 1
    assert "batch-monitor demo" in found.stderr
    assert "config.example.yaml" in found.stderr


def test_a_run_with_mistakes_ends_before_anything_starts(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("accounts: []\n")
    found = run("run", "--config.file", str(path))
    assert (found.exit_code, found.stderr) == (1, f"{path}:1:11: accounts: must not be empty\n")


def test_a_run_without_a_folder_for_its_state_says_so(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "accounts: [{name: main, api_key: '${ULTRAVOX_API_KEY}'}]\nstorage: {path: nowhere/monitor.db}\n"
    )
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "monitor",
            "run",
            "--config.file",
            str(path),
            "--web.listen-address",
            "127.0.0.1:0",
        ],
        env=KEY,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert found.returncode == 1
    assert f"{tmp_path / 'nowhere'} does not exist: create it, or change storage.path" in found.stderr
    assert "Traceback" not in found.stderr


def test_status_shows_the_batches(daemon):
    found = run("status", "--url", daemon, COLUMNS="160")
    assert found.exit_code == 0
    for expected in ("spring-renewals", "running", "118/400", "No alert is firing", f"at {daemon}"):
        assert expected in found.output


def test_status_fits_eighty_columns(daemon):
    found = run("status", "--url", daemon, COLUMNS="80")
    assert max(len(line) for line in found.output.splitlines()) <= 80
    assert "118/400" in found.output


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:9", "no daemon answers at http://127.0.0.1:9"),
        ("http://127.0.0.1:nonsense", "no daemon answers"),
        ("localhost:10042", "write it as http://HOST:PORT"),
        ("file:///etc/passwd", "write it as http://HOST:PORT"),
    ],
)
def test_status_without_a_daemon_says_what_to_do(url, text):
    found = run("status", "--url", url)
    assert found.exit_code == 3
    assert text in found.stderr


def test_status_of_something_else_says_so(daemon):
    found = run("status", "--url", f"{daemon}/elsewhere")
    assert found.exit_code == 3
    assert "is it a batch monitor?" in found.stderr


@pytest.mark.parametrize(
    ("path", "text"), [("/list", "no daemon"), ("/null", "no daemon"), ("/empty", "something else than")]
)
def test_status_of_a_foreign_answer_is_no_traceback(daemon, path, text):
    found = run("status", "--url", daemon + path)
    assert (found.exit_code, type(found.exception)) == (3, SystemExit)
    assert text in found.stderr


def test_simulate_tells_mistakes_in_a_scenario(tmp_path):
    path = tmp_path / "scenario.yaml"
    path.write_text("accounts: []\n")
    found = run("simulate", "--scenario", str(path))
    assert (found.exit_code, found.stderr) == (1, f"{path}: accounts: at least one is needed\n")


def test_explain_says_of_each_alert_why(daemon):
    found = run("explain", "3c90", "--url", daemon, COLUMNS="120")
    assert found.exit_code == 0
    assert "spring-renewals is running: 118 of 400 done" in found.stdout
    for name, kind in KINDS.items():
        assert (name.value in found.stdout) is not kind.about_account
    assert "no call for 0 s of 15 min" in found.stdout
    assert "fires in 15 min" in found.stdout


@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("", "zzz", "no watched batch has this id"),
        ("/odd", "3c90", "answers something else than a batch monitor"),
        ("/nobody", "3c90", "404 Not Found: is it a batch monitor?"),
    ],
)
def test_explain_that_cannot_says_why_and_exits_1(daemon, path, asked, said):
    found = run("explain", asked, "--url", daemon + path)
    assert (found.exit_code, found.stdout) == (1, "")
    assert said in found.stderr


def test_uncalled_without_a_key_says_where_it_goes():
    found = run("uncalled", "3c90c3cc-0d44-4b50-8888-8dd25736052a", ULTRAVOX_API_KEY="")
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr == "No API key: set ULTRAVOX_API_KEY, or name the configuration with --config.file\n"


def test_status_as_json_is_the_answer_with_the_alerts(daemon):
    found = run("status", "-o", "json", "--url", daemon)
    data = json.loads(found.stdout)
    assert (found.exit_code, found.stderr) == (0, "")
    assert (data["matching"], data["states"], data["alerts"]) == (1, {"running": 1}, [])
    assert [batch["batch"] for batch in data["batches"]] == ["spring-renewals"]


@pytest.mark.parametrize("output", ["table", "json"])
def test_status_that_matches_nothing_cannot_tell(daemon, output):
    found = run("status", "--url", f"{daemon}/nothing", "-o", output)
    assert (found.exit_code, type(found.exception)) == (3, SystemExit)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--state", "asleep"], "--state asleep: there is no such state; there are unknown, "),
        (["--sort", "size"], "--sort size: order by worst, name"),
        (["--firing", "BatchTired"], "--firing BatchTired: give any or the name of an alert: BatchStalled"),
        (["--nope"], "No such option '--nope'"),
        (["-o", "xml"], "Invalid value for '-o' / '--output'"),
    ],
)
def test_who_asks_wrongly_is_told(options, text):
    """By `status` with the code that checks have for it; 2 would say that something is critical."""
    found = run("status", *options)
    assert (found.exit_code, found.stdout) == (3, "")
    assert text in found.stderr
    if options[0] != "-o":
        found = run("watch", *options)
        assert (found.exit_code, found.stdout) == (2, "")
        assert text in found.stderr


def test_watch_without_a_terminal_prints_once_and_says_so(daemon):
    found = run("watch", "--url", daemon)
    assert found.exit_code == 1
    assert "spring-renewals" in found.stdout
    assert "There is no terminal to draw in" in found.stderr


def test_watch_without_a_terminal_or_a_daemon():
    found = run("watch", "--url", "http://127.0.0.1:9")
    assert (found.exit_code, found.stdout) == (1, "")
    assert "start one with `batch-monitor run`" in found.stderr


def test_what_is_asked_of_a_daemon_on_this_machine_passes_no_proxy(daemon, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert run("status", "--url", daemon).exit_code == 0


def test_alone_it_prints_its_help():
    found = run()
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout == run("--help").stdout
    for command in COMMANDS:
        [line] = [line for line in found.stdout.splitlines() if line.startswith(f"  {command} ")]
        assert line.endswith(".")
        assert not line.endswith("...")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("statsu", "There is no command statsu. Did you mean `batch-monitor status`?"),
        ("chek-config", "Did you mean `batch-monitor check-config`?"),
        ("frobnicate", "There is no command frobnicate.\n"),
    ],
)
def test_a_command_that_there_is_not(typed, said):
    found = run(typed)
    assert (found.exit_code, found.stdout) == (2, "")
    assert said in found.stderr


@pytest.mark.parametrize("key", ["", "  "])
def test_a_key_that_is_empty_is_none(key):
    assert "No API key and no configuration" in run("run", ULTRAVOX_API_KEY=key).stderr


@pytest.mark.parametrize("command", [("run", "--config.file"), ("check-config",)])
def test_a_configuration_that_is_not_there_says_how_to_go_on(tmp_path, command):
    found = run(*command, str(tmp_path / "config.yaml"), **KEY)
    assert found.exit_code == 1
    assert (
        "there is no such file: copy config.example.yaml to it, or run without --config.file" in found.stderr
    )


def completed(arguments, begun, **environ):
    """What bash is offered."""
    words = "\n".join(["batch-monitor", *arguments, begun])
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(arguments) + 1)}
    found = run(**environ, **asked, _BATCH_MONITOR_COMPLETE="bash_complete")
    assert found.stderr == ""
    return [line.partition(",")[2] for line in found.stdout.splitlines() if line]


@pytest.fixture
def a_busy_machine(monkeypatch):
    """A machine that is busy with other things is no daemon that does not answer."""
    monkeypatch.setattr(completing, "_PATIENCE", 20)


@pytest.mark.usefixtures("a_busy_machine")
def test_completion_offers_what_the_daemon_knows(daemon):
    assert completed(["explain", "--url", daemon], "3c9") == [status().key.batch_id]
    assert completed(["explain", "--url", daemon], "zz") == []
    assert completed(["status", "--url", daemon, "--account"], "m") == ["main"]
    assert completed(["status", "--state"], "stalled,p") == ["stalled,paused"]
    assert completed(["watch", "--firing"], "BatchO") == ["BatchOverdue"]
    assert completed([], "sta") == ["status"]


@pytest.mark.usefixtures("a_busy_machine")
def test_completion_in_a_bash_that_takes_addresses_apart(daemon):
    host, port = daemon.removeprefix("http://").split(":")
    apart = ["explain", "--url", "http", ":", f"//{host}", ":", port]
    assert completed(apart, "3c9") == [status().key.batch_id]
    assert completed(["mute", *apart[1:], "--for", "2h"], "3c9") == [status().key.batch_id]


def test_completion_in_a_process_of_its_own(daemon):
    """As a shell asks: nothing has been imported before."""
    host, port = daemon.removeprefix("http://").split(":")
    words = ["batch-monitor", "explain", "--url", "http", ":", f"//{host}", ":", port, "3c9"]
    asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    found = subprocess.run(
        [sys.executable, "-m", "monitor"],
        env={**os.environ, **asked, "_BATCH_MONITOR_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == f"plain,{status().key.batch_id}\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "/list", "/null", "/empty", "/elsewhere"])
def test_completion_is_silent_where_there_is_no_daemon(daemon, url):
    for arguments in (["explain"], ["test-alert", "--receiver"], ["status", "--account"]):
        address = daemon + url if url.startswith("/") else url
        assert completed([arguments[0], "--url", address, *arguments[1:]], "") == []


def test_completion_waits_for_nobody(monkeypatch):
    ask, given = remote.ask, []

    def asked(*arguments, timeout):
        given.append(timeout)
        return ask(*arguments, timeout=timeout)

    monkeypatch.setattr(remote, "ask", asked)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert completed(["mute", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}"], "3") == []
    assert given == [completing._PATIENCE]
    assert completing._PATIENCE < 1


def test_completion_waits_for_no_name_server_either(monkeypatch):
    """Whose answer no timeout of a socket covers."""
    hangs, asking = threading.Event(), []

    def ask(*_, **__):
        asking.append(threading.current_thread())
        hangs.wait()

    monkeypatch.setattr(remote, "ask", ask)
    assert completed(["mute"], "3") == []
    [thread] = asking
    assert thread.is_alive(), "it still waits, and nobody for it"
    hangs.set()
    thread.join()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_example_in_a_command_s_help_stands_on_a_line_of_its_own(command):
    lines = [line.strip() for line in run(command, "--help").output.splitlines()]
    assert any(line.startswith(f"Example: batch-monitor {command}") for line in lines)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ULTRAVOX_API_KEY": "bad key"}, "ULTRAVOX_API_KEY: must not hold blanks or control characters\n"),
        (
            KEY | {"ULTRAVOX_BASE_URL": "ftp://x"},
            "ULTRAVOX_BASE_URL: not a URL: write it as http://host:port/path or https://…\n",
        ),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("uncalled", "3c90c3cc-0d44-4b50-8888-8dd25736052a")])
def test_an_environment_that_cannot_be_used_is_told_by_the_variable(command, environ, said):
    found = run(*command, **environ)
    assert (found.exit_code, found.stderr) == (1, said)

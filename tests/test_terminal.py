"""`watch` in a real terminal, completion in real shells: tmux shows what a person would see.

A real daemon watches the real simulator. Marked `terminal`: `make test-terminal`. Nothing waits for time to pass,
but for what is to be seen.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import pytest
import yaml

from monitor import simulator

pytestmark = [pytest.mark.terminal, pytest.mark.timeout(120)]

MONITOR = f"{shlex.quote(sys.executable)} -m monitor"
BIN = Path(sys.executable).parent
BATCHES = 60


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def eventually(what, look, within=30.0):
    """The first true result of `look`; fails by the name of what did not come."""
    until = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < until, f"not within {within} s: {what() if callable(what) else what}"
        time.sleep(0.05)
    return found


def answers(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return answer.status == 200
    return False


class Daemon:
    """A daemon that can die and come back at the same address."""

    def __init__(self, folder, config, port, keys):
        self.folder, self.config, self.keys = folder, config, keys
        self.url = f"http://127.0.0.1:{port}"
        self._process = None

    def start(self):
        command = [sys.executable, "-m", "monitor", "run", "--config.file", str(self.config)]
        with self.folder.joinpath("daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | self.keys, stdout=log, stderr=log
            )
        eventually("the daemon is ready", lambda: answers(f"{self.url}/-/ready"))

    def kill(self):
        self._process.kill()
        self._process.wait(20)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    """Sixty batches of two accounts; one stands still from the beginning."""

    def batches(first, last):
        return [
            {
                "name": f"batch-{number:02}",
                "calls": 9000 + number,
                "created": "0s",
                "window": {"start": "0s", "end": "10h"},
                "pace": "3600/h",
                "jitter": 0,
            }
            for number in range(first, last)
        ]

    document = {
        "seed": 3,
        "accounts": [
            {"name": "main", "agents": [{"name": "renewals", "batches": batches(1, 41)}]},
            {"name": "agency", "agents": [{"name": "outreach", "batches": batches(41, BATCHES + 1)}]},
        ],
    }
    document["accounts"][0]["agents"][0]["batches"][16]["script"] = [{"at": "1s", "do": "stall"}]
    path = tmp_path_factory.mktemp("scenario") / "scenario.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def daemon(scenario, tmp_path_factory):
    folder = tmp_path_factory.mktemp("daemon")
    story = simulator.load(scenario)
    command = [sys.executable, "-m", "monitor", "simulate", "--scenario", str(scenario), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as pretend:
        base_url = pretend.stdout.readline().split()[-1]
        port = free_port()
        config = folder / "config.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "accounts": [
                        {
                            "name": account.name,
                            "api_key": "${KEY_" + account.name.upper() + "}",
                            "base_url": base_url,
                            "batches": [
                                {
                                    "agent_id": str(agent.agent_id),
                                    "batch_id": str(batch.batch_id),
                                    # what no terminal without UTF-8 can show, and what rich would take for markup
                                    "name": f"{batch.name} [red]é日[/red]",
                                }
                                for agent in account.agents
                                for batch in agent.batches
                            ],
                        }
                        for account in story.accounts
                    ],
                    "poll": {"interval": "1s", "timeout": "2s"},
                    "alerts": {"stalled": {"after": "5s", "for": "1s"}},
                    "receivers": [{"name": "ops-chat", "webhook": {"url": "http://127.0.0.1:9/"}}],
                    "storage": {"path": str(folder / "monitor.db")},
                    "web": {"listen_address": f"127.0.0.1:{port}"},
                }
            )
        )
        daemon = Daemon(
            folder,
            config,
            port,
            {f"KEY_{account.name.upper()}": account.api_key for account in story.accounts},
        )
        try:
            daemon.start()
            eventually(
                "batch-17 is stalled",
                lambda: (
                    answers(f"{daemon.url}/-/healthy")
                    and b"BatchStalled" in read(f"{daemon.url}/api/v1/alerts?state=firing")
                ),
            )
            yield daemon
        finally:
            daemon.kill()
            pretend.terminate()
            pretend.wait(20)


def read(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


class Terminal:
    """A terminal with a shell in it, as wide and high as one likes."""

    def __init__(self, folder, width, height, shell="bash --norc --noprofile", **environ):
        assert shutil.which("tmux"), "tmux is not on PATH: install Debian's tmux"
        self._socket = f"test-{uuid.uuid4().hex[:12]}"
        home = {"HOME": str(folder), "PATH": f"{BIN}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "xterm"}
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LC_", "LANG", "PYTHON", "NO_COLOR", "COLUMNS", "LINES", "TMUX"))
        }
        # tmux itself speaks UTF-8; what runs in it is told what the test says
        self._environ = kept | home | {"LC_ALL": "C.UTF-8", "ZDOTDIR": str(folder)}
        inside = shlex.join(
            ["env", "-u", "LC_ALL", *(f"{k}={v}" for k, v in ({"LANG": "C.UTF-8"} | environ).items())]
        )
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), f"{inside} {shell}")

    def _tmux(self, *arguments):
        command = ["tmux", "-u", "-L", self._socket, "-f", "/dev/null", *arguments]
        found = subprocess.run(
            command, env=self._environ, capture_output=True, text=True, check=True, timeout=20
        )
        return found.stdout

    def type(self, text):
        self._tmux("send-keys", "-l", text)

    def press(self, *keys):
        self._tmux("send-keys", *keys)

    def run(self, command):
        self.type(command)
        self.press("Enter")

    def lines(self, *, styled=False):
        return self._tmux("capture-pane", "-p", *(["-e"] if styled else [])).split("\n")[:-1]

    def text(self):
        return "\n".join(self.lines())

    def shows(self, *wanted):
        """Waits until the screen shows all of them."""
        eventually(lambda: f"{wanted} on\n{self.text()}", lambda: all(one in self.text() for one in wanted))
        return self.lines()

    def shows_no(self, unwanted):
        eventually(lambda: f"no {unwanted} on\n{self.text()}", lambda: unwanted not in self.text())

    def resize(self, width, height):
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def close(self):
        self._tmux("kill-server")


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def make(width, height, **options):
        opened.append(Terminal(tmp_path, width, height, **options))
        return opened[-1]

    yield make
    for one in opened:
        with contextlib.suppress(subprocess.CalledProcessError):
            one.close()


@pytest.fixture
def watching(terminal, daemon):
    """A terminal in which `watch` has drawn its first picture."""

    def start(width=120, height=40, options="", **environ):
        made = terminal(width, height, **environ)
        made.run("echo before-it")
        made.run(f"{MONITOR} watch --interval 0.3 --url {daemon.url} {options}")
        made.shows("all", "running", "quit")
        return made

    return start


@pytest.mark.parametrize(("width", "height"), [(40, 12), (80, 24), (120, 40), (200, 50)])
def test_it_fills_the_terminal_and_no_more(watching, width, height):
    shown = watching(width, height).shows("batch-17", "stalled")
    assert len(shown) == height
    assert shown[0].startswith("Ultravox Batch Monitor")
    assert shown[-1].startswith("q quit")
    rows = [line for line in shown if line.startswith("batch-")]
    assert rows[0].startswith("batch-17")  # the worst first
    assert any(line.startswith(f"1 to {len(rows)} of {BATCHES} batches") for line in shown)
    assert ("account" in shown[-1]) is (width >= 120)


def test_sixteen_colours_and_names_that_are_no_markup(watching):
    made = watching(200, 50)
    made.shows("stalled")
    codes = set(re.findall(r"\x1b\[([0-9;]*)m", "\n".join(made.lines(styled=True))))
    assert any("31" in code.split(";") for code in codes)
    assert not [code for code in codes if "38" in code.split(";") or "48" in code.split(";")]
    assert "batch-17 [red]é日[/red]" in made.text()


def test_without_colours(watching):
    made = watching(NO_COLOR="1")
    shown = made.shows("stalled")
    codes = {
        code
        for found in re.findall(r"\x1b\[([0-9;]*)m", "\n".join(made.lines(styled=True)))
        for code in found.split(";")
    }
    assert not [code for code in codes if code.isdecimal() and 30 <= int(code) <= 38]
    assert any("─" in line for line in shown)


@pytest.mark.parametrize("environ", [{"LANG": "C"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}])
def test_without_utf_8(watching, environ):
    shown = watching(**environ).shows("stalled", "--")
    assert "\n".join(shown).isascii()
    assert any(line.startswith("batch-17 [red]??") for line in shown)


def test_keys(watching):
    made = watching(120, 40)
    made.press("s")
    shown = made.shows("order: by name", "batches, by name")
    assert next(line for line in shown if line.startswith("batch-")).startswith("batch-01")
    made.press("r")
    made.shows("by name, reversed", "batch-60")
    made.press("r")
    made.press("PageDown")
    eventually("the second page", lambda: second_page(made))
    made.press("Home")
    made.shows("1 to", "batch-01")
    made.press("Down")
    eventually("the second page again", lambda: second_page(made))
    made.press("k")
    made.shows("batch-01")
    made.type("/batch-3 [red]")
    made.shows("Search: batch-3 [red]")
    made.press("Enter")
    shown = made.shows('10 batches, by name, search "batch-3 [red]"')
    assert len([line for line in shown if line.startswith("batch-3")]) == 10
    made.press("Escape")
    made.shows(f"of {BATCHES} batches, by name")
    made.press("f")
    made.shows("1 batch, by name, firing")
    made.press("f")
    made.press("t")
    made.shows("1 batch, by name, stalled", "state: stalled")
    made.press("Escape")
    made.press("a")
    made.shows("40 batches, by name, account main")
    made.press("a")
    made.shows("20 batches, by name, account agency")
    made.press("?")
    made.shows("only batches at risk of missing their window")
    made.press("x")
    made.shows("20 batches, by name, account agency")


def second_page(made):
    found = re.search(r"^(\d+) to \d+ of 60 batches", made.text(), flags=re.MULTILINE)
    return found and found[1] != "1"  # how many fit depends on what is in trouble below


def test_options_choose_from_the_start(watching):
    shown = watching(120, 40, "--account agency --sort -name --search 'batch-5'").shows("10 batches")
    rows = [line for line in shown if line.startswith("batch-")]
    assert rows[0].startswith("batch-59")
    assert 'by name, reversed, account agency, search "batch-5"' in "\n".join(shown)


@pytest.mark.parametrize("how", ["q", "C-c", "SIGTERM", "daemon of the terminal"])
def test_the_terminal_is_given_back(watching, how):
    made = watching(100, 30)
    if how == "SIGTERM":
        os.kill(process_in(made), signal.SIGTERM)
    elif how == "daemon of the terminal":
        made.press("C-z")  # suspended, the shell has its screen
        made.shows("Stopped", "before-it")
        made.shows_no("q quit")
        made.run("fg")
        made.shows("q quit", "batch-17")
        made.press("q")
    else:
        made.press(how)
    made.shows_no("q quit")
    made.run("echo code=$?; stty -a | tr ' ' '\\n' | grep -E '^-?(echo|icanon);?$' | tr '\\n' ' '")
    shown = "\n".join(made.shows("code=0", "before-it", "icanon"))
    assert "-icanon" not in shown.rpartition("code=0")[2]
    assert "-echo" not in shown.rpartition("code=0")[2]


def process_in(made):
    [shell] = made._tmux("list-panes", "-F", "#{pane_pid}").split()
    children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    return int(children[-1])


def test_it_follows_the_size_of_the_terminal(watching):
    made = watching(200, 50)
    made.shows("WHY", "OUTLOOK")
    for width, height in ((80, 24), (40, 10), (160, 45)):
        made.resize(width, height)
        eventually(
            made.text,
            lambda height=height: (
                len(made.lines()) == height
                and made.lines()[-1].startswith("q quit")
                and made.lines()[0].startswith("Ultravox")
                and re.search(r"^1 to \d+ of 60 b", made.text(), flags=re.MULTILINE)
            ),
        )
        assert made.text().count("Ultravox Batch Monitor") == 1
    made.shows("WHY")


def test_a_daemon_that_dies_and_comes_back(watching, daemon):
    made = watching(120, 40)
    made.shows("batch-17")
    daemon.kill()
    try:
        shown = made.shows("No answer since", "Connection refused; what follows is old, asking goes on")
        assert any(line.startswith("batch-17") for line in shown)
        made.press("?")  # keys are still read
        made.shows("next account")
        made.press("?")
        made.shows("batch-17")
    finally:
        daemon.start()
    made.shows_no("No answer since")
    made.shows("answered just now", "batch-17")


def test_a_daemon_that_is_not_there_yet(terminal, daemon):
    made = terminal(100, 30)
    daemon.kill()
    try:
        made.run(f"{MONITOR} watch --interval 0.3 --url {daemon.url}")
        made.shows("No daemon answers since", "Start one with `batch-monitor run`")
    finally:
        daemon.start()
    made.shows("batch-17")
    made.press("q")


def test_a_daemon_that_hangs_keeps_nobody_from_leaving(terminal):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        made = terminal(100, 30)
        made.run(f"{MONITOR} watch --url http://127.0.0.1:{silent.getsockname()[1]}; echo left=$?")
        made.shows("Asking ...")
        began = time.monotonic()
        made.press("q")
        made.shows("left=0")
        assert time.monotonic() - began < 3


def test_the_demo_is_the_same_screen(terminal):
    made = terminal(120, 40)
    made.run(f"{MONITOR} demo --port 0; echo left=$?")
    made.shows("Demonstration: an afternoon at 120 times its speed", "spring-renewals", "q quit")
    made.press("/")
    made.type("spring")
    made.press("Enter")
    made.shows('1 batch, worst first, search "spring"')
    made.press("q")
    shown = made.shows("left=0", "16 batches, worst first")
    assert not any(line.startswith("q quit") for line in shown)


SHELLS = {
    "bash": ("bash --norc --noprofile", "PS1='$ '; source <(batch-monitor completion bash)"),
    "zsh": (
        "zsh -f",
        (
            "PS1='$ '; mkdir -p ~/.zfunc; batch-monitor completion zsh > ~/.zfunc/_batch-monitor; "
            "fpath+=(~/.zfunc); autoload -Uz compinit; compinit -u"
        ),
    ),
    "fish": (
        "fish --private",
        "set -g fish_autosuggestion_enabled 0; function fish_prompt; echo '$ '; end; batch-monitor completion fish | source",
    ),
}


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_completion(terminal, daemon, scenario, shell):
    program, load = SHELLS[shell]
    assert shutil.which(shell), f"{shell} is not on PATH: install Debian's"
    made = terminal(200, 50, shell=program)
    eventually("a prompt", lambda: made.text().strip())
    made.run(f"{load}; echo 'load''ed'")
    made.shows("loaded")
    ids = [
        str(batch.batch_id)
        for account in simulator.load(scenario).accounts
        for agent in account.agents
        for batch in agent.batches
    ]
    wanted = ids[16]
    begun = next(wanted[:n] for n in range(1, 36) if sum(one.startswith(wanted[:n]) for one in ids) == 1)
    for typed, completed in (
        ("batch-monitor complet", "batch-monitor completion"),
        ("batch-monitor status --acc", "batch-monitor status --account"),
        (f"batch-monitor explain --url {daemon.url} {begun}", f"{daemon.url} {wanted}"),
        (f"batch-monitor test-alert --url {daemon.url} --receiver o", "--receiver ops-chat"),
        ("batch-monitor watch --state sta", "--state stalled"),
        *[("batch-monitor explain --url http://127.0.0.1:9 3",) * 2],
    ):
        made.run("clear")
        eventually(made.text, lambda: made.text().strip() == "$")  # what is typed before is not completed
        made.type(typed)
        made.shows(typed)
        made.press("Tab")
        if typed == completed:  # nothing comes; the shell reads on when it knows
            made.type("x")
        for _ in range(5):  # a shell that draws its prompt may swallow a Tab, a busy machine answer too late
            if typed == completed or completed in made.text():
                break
            with contextlib.suppress(AssertionError):
                eventually("a completion", lambda completed=completed: completed in made.text(), within=6)
                break
            made.press("Tab")
        shown = "\n".join(made.shows(completed + "x" * (typed == completed)))
        assert "Traceback" not in shown
        made.press("C-u")
        made.shows_no(typed)

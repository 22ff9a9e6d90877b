"""Configurations that are none: bytes of every kind, and what is left of good and bad ones after mutations.

Whatever is read is a Config, or a ConfigError each of whose lines says where, which and what, and shows no secret:
within a second, and without any other exception.
"""

from __future__ import annotations

import copy
import os
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_config import AGENT, BAD_FILES, BATCH, EXAMPLE, EXAMPLE_DATA, GOOD, KEY, MINIMAL, places

from monitor import config
from monitor.config import ConfigError

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "40"))
TOKEN = "t0k3n-of-the-receiver"
SECRETS = {
    "KEY": KEY,
    "URL": f"https://user:{TOKEN}@crm.example/{TOKEN}",
    "APPRISE": f"json://user:{TOKEN}@chat.example/{TOKEN}",
    "EMPTY": "",
}
LINE = re.compile(r".*config\.yaml:[1-9][0-9]*:[1-9][0-9]*: (?:[^:\n]+: )?[^\n]+")
EVERYTHING = f"""
accounts:
  - &main
    name: main
    api_key: ${{KEY}}
    base_url: https://api.example
    batches: [{{agent_id: {AGENT}, batch_id: {BATCH}, name: spring, labels: {{team: growth}}}}]
    agents: [{{agent_id: {AGENT}, name: renewals, alerts: {{stalled: {{after: 20m}}}}}}]
    discover: {{agents: [renewals*], interval: 2m, max_batches: 10}}
receivers:
  - {{name: crm, webhook: {{url: "${{URL}}", secret: "${{KEY}}"}}, only: [BatchStalled]}}
  - {{name: chat, apprise: {{urls: ["${{APPRISE}}"]}}, match: {{team: [growth, ""]}}}}
  - {{name: oncall, alertmanager: {{urls: ["${{URL}}"]}}}}
heartbeat: {{url: "${{URL}}", every: 1m}}
poll: {{interval: 30s, timeout: 10s}}
links: {{runbook_url: "https://x.example/{{alertname}}"}}
storage: {{path: monitor.db}}
web: {{listen_address: ":0"}}
"""
DATA = yaml.safe_load(EVERYTHING)


@pytest.fixture
def judge(tmp_path):
    """Load these bytes; the lines of the error, or none."""
    path = tmp_path / "config.yaml"

    def judge(content: bytes) -> list[str]:
        path.write_bytes(content)
        began = time.thread_time()
        lines = []
        try:
            config.load(path, SECRETS)
        except ConfigError as error:
            lines = str(error).split("\n")
            assert lines
        assert time.thread_time() - began < 1
        for line in lines:
            assert LINE.fullmatch(line), line
            assert line.isprintable(), line
            for secret in (KEY, KEY.partition(".")[2], TOKEN):
                assert secret not in line
        return lines

    return judge


ROWS = {
    # bytes, and what the first line says; "": it is a configuration
    "good": (EVERYTHING.encode(), ""),
    "with a mark": (b"\xef\xbb\xbf" + EVERYTHING.encode(), ""),
    "with Windows' line ends": (EVERYTHING.replace("\n", "\r\n").encode(), ""),
    "with a date as a name": (MINIMAL.replace("main", "2026-01-01").encode(), "must be text"),
    "UTF-16 with a mark": (EVERYTHING.encode("utf-16"), "not UTF-8"),
    "UTF-16 without one": (EVERYTHING.encode("utf-16-le"), "a control character that YAML does not allow"),
    "UTF-32": (EVERYTHING.encode("utf-32"), "not UTF-8"),
    "Latin-1": (EVERYTHING.replace("spring", "Frühjahr").encode("latin-1"), "not UTF-8"),
    "UTF-7": (EVERYTHING.replace("spring", "Fr+APw-hjahr").encode(), ""),
    "a surrogate": (MINIMAL.replace("main", "m\ud800").encode("utf-8", "surrogatepass"), "not UTF-8"),
    "an escaped surrogate": (MINIMAL.replace("main", '"\\ud800"').encode(), "not YAML: found invalid Unicode"),
    "a NUL": (MINIMAL.replace("main", "ma\0in").encode(), "a control character"),
    "an escaped NUL": (MINIMAL.replace("main", '"ma\\0in"').encode(), "1 to 64 letters"),
    "an escape of the terminal": (MINIMAL.replace("main", "\x1b[31m").encode(), "a control character"),
    "letters that turn around": (MINIMAL.replace("main", "\u202emain").encode(), "1 to 64 letters"),
    "another line end": (MINIMAL.replace("main", "'m\u2028ain'").encode(), "1 to 64 letters"),
    "nothing": (b"", "the file is empty"),
    "a mark only": (b"\xef\xbb\xbf", "the file is empty"),
    "zeros": (bytes(1000), "a control character"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(20), "not UTF-8"),
    "a certificate": (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "must be a map"),
    "JSON": (b'{"accounts": [{"name": "main", "api_key": "${KEY}"}]}', ""),
    "five megabytes": (b"#" * 5_000_000, "larger than 4 MiB"),
    "a line of a megabyte": (b"a: " + b"x" * 1_000_000, "unknown key"),
    "an integer of 10,000 digits": (b"poll: {interval: " + b"9" * 10_000 + b"}", "accounts: missing"),
    "a hexadecimal of 100,000 digits": (b"poll: 0x" + b"f" * 100_000, "accounts: missing"),
    "sixty to the three thousandth": (b"poll: " + b":".join([b"59"] * 3000), "accounts: missing"),
    "a number that is none": (MINIMAL.encode() + b"    max_requests_per_second: .nan\n", "must be at most 200"),
    "infinity": (MINIMAL.encode() + b"    max_requests_per_second: .inf\n", "must be at most 200"),
    "a duration of 100,000 digits": (MINIMAL.encode() + b"poll: {interval: " + b"1" * 100_000 + b"s}", "not a duration"),
    "a pattern that would take for ever": (MINIMAL.encode() + b"links: {runbook_url: '" + b"{" * 100_000 + b"'}", "a brace without"),
    "nested": (b"[" * 200_000, "nested deeper than 50 levels"),
    "itself": (b"&a [*a]", "nested deeper than 50 levels"),
    "merged with itself": (b"&a {<<: *a}", "nested deeper than 50 levels"),
    "an object of Python": (b"poll: !!python/object/apply:os.system ['exit']", "not YAML: a tag|accounts: missing"),
    "a set": (b"poll: !!set {a, b}", "accounts: missing"),
    "bytes": (b"poll: !!binary AAAA", "accounts: missing"),
    "a directive": (f"%{KEY}\n---\n".encode(), "not YAML"),
    "two thousand mistakes": ("".join(f"k{number}: 1\n" for number in range(2000)).encode(), "accounts: missing"),
    "a key as a key": (f"accounts: [{{{KEY}: 1}}]".encode(), "unknown key"),
    "a key as a tag": (f"accounts: [{{name: a, api_key: !{KEY} x}}]".encode(), "not YAML: a tag"),
    "a key as an anchor": (f"accounts: [{{name: a, api_key: &{KEY}}}]".encode(), "not YAML"),
    "a key as an alias": (f"accounts: [{{name: a, api_key: *{KEY[:8]}}}]".encode(), "not YAML: found undefined alias"),
    "a key as a file": (f"accounts: [{{name: a, api_key_file: {KEY}}}]".encode(), "must be the path of a file"),
    "a key as everything": (re.sub(r"\b(?:spring|renewals|crm|growth|30s|monitor\.db)\b", KEY, EVERYTHING).encode(), ""),
    "a file without an end": (b"accounts: [{name: a, api_key_file: /dev/zero}]", "it is no regular file"),
    "a folder": (b"accounts: [{name: a, api_key_file: /}]", "Is a directory"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said"), ROWS.values(), ids=ROWS)
def test_what_is_no_configuration_is_said_to_be_none(judge, content, said):
    lines = judge(content)
    if said:
        assert any(one in " ".join(lines) for one in said.split("|"))
    elif KEY.encode() not in content:
        assert lines == []


def test_a_pipe_in_place_of_a_secret_is_not_waited_for(judge, tmp_path):
    os.mkfifo(tmp_path / "key")
    [line] = judge(b"accounts: [{name: main, api_key_file: key}]")
    assert "it is no regular file" in line


def test_a_pipe_or_a_device_among_the_files_is_not_waited_for_either(tmp_path):
    os.mkfifo(tmp_path / "key")
    files = config.Files([tmp_path / "key", Path("/dev/zero")])
    assert not files.changed()


def test_of_very_many_mistakes_the_first_are_told(judge):
    lines = judge("".join(f"k{number}: 1\n" for number in range(5000)).encode())
    assert len(lines) == 1001
    assert lines[-1].endswith("and more mistakes after this one")


# Mutations

_SCALARS = st.sampled_from([
    None, True, 0, -1, 10**40, 1.5, float("inf"), "", " ", "on", "12:30", "~", "=", "<<", "*", "!x", KEY, "${KEY}", "${URL}", "${APPRISE}", "${EMPTY}", "${NO", "$$",
    "0x10", "1_000", "2026-01-01", "\u202e", "\x85", "é" * 300, "x" * 5000, "http://[::1", "slack://a", "/dev/zero", "/", "a\0b", f"json://user:{TOKEN}@x/{TOKEN}",
]) | st.text(max_size=8)  # fmt: skip
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
_fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _inside(data, way):
    for step in way:
        data = data[step]
    return data


@_fuzz
@given(data=st.data(), source=st.sampled_from([DATA, EXAMPLE_DATA]))
def test_a_good_configuration_that_was_tampered_with(judge, data, source):
    """Keys dropped, renamed, doubled in another place, values of other types, anchors to what they stand in."""
    changed = copy.deepcopy(source)
    for _ in range(data.draw(st.integers(1, 4))):
        *way, last = data.draw(st.sampled_from(places(changed)[1:] or [("accounts",)]))
        inside = _inside(changed, way)
        if not isinstance(inside, dict | list) or (isinstance(inside, dict) and last not in inside):
            continue
        match data.draw(st.sampled_from(["replace", "drop", "rename", "copy", "twice", "loop"])):
            case "replace":
                inside[last] = data.draw(_ANYTHING)
            case "rename" if isinstance(inside, dict):
                inside[data.draw(st.text(max_size=8) | st.just(f"{last}x") | st.just(KEY))] = inside.pop(last)
            case "copy":
                inside[last] = copy.deepcopy(_inside(source, data.draw(st.sampled_from(places(source)))))
            case "twice" if isinstance(inside, list):
                inside.append(inside[last])  # by an alias
            case "loop":
                inside[last] = changed
                break
            case _:
                del inside[last]
    style = data.draw(st.sampled_from([None, True, False]))
    judge(yaml.dump(changed, default_flow_style=style, allow_unicode=True).encode("utf-8", "surrogatepass"))


CORPUS = [path.read_bytes() for path in [*BAD_FILES, *sorted(GOOD.glob("*.yaml"))]]
CORPUS += [EVERYTHING.encode(), EXAMPLE.encode()]
_PUT = st.binary(max_size=12) | st.sampled_from([
    b"&a ", b"*a", b"<<: *a\n", b"!!int ", b"|\n", b">-\n", b"? ", b"- ", b"{", b"}", b"[", b"]", b"---\n", b"...\n", b"%YAML 9.9\n", b"#", b"\t", b"\0", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\xc2\x85", b"\xe2\x80\xa8", b"${KEY}", b"${", b"'", b'"', b"\\x", b"\r", KEY.encode(), TOKEN.encode() + b":", b"[" * 60,
])  # fmt: skip


@_fuzz
@given(
    content=st.sampled_from(CORPUS),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 40), _PUT, st.booleans()), min_size=1, max_size=4
    ),
    encoding=st.sampled_from(["utf-8"] * 12 + ["utf-16", "utf-16-be", "utf-8-sig", "latin-1"]),
)
def test_any_bytes_made_of_a_configuration(judge, content, changes, encoding):
    """Cut, overwritten, put in, and lines said twice."""
    for at, length, put, twice in changes:
        start = int(at * len(content))
        again = content[start : start + length] if twice else b""
        content = content[:start] + again + put + content[start + length * (not twice) :]
    if encoding != "utf-8":
        content = content.decode(errors="ignore").encode(encoding, errors="replace")
    judge(content)

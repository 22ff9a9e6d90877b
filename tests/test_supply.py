"""Where everything comes from: locked by hash, each with a reason and a licence, built to the same bytes every time."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from email.message import Message
from pathlib import Path

import pytest
import yaml

from deploy.supply.licences import ALLOWED, UnknownError, licence, locked, page

ROOT = Path(__file__).parents[1]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
PIN = re.compile(r"[a-z0-9-]+==[0-9a-z.]+( ; [^\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+")


def test_there_is_a_lock_for_each_purpose():
    assert [lock.name for lock in LOCKS] == [
        "requirements-build.lock",
        "requirements-deploy.lock",
        "requirements-dev.lock",
        "requirements-sbom.lock",
        "requirements-views.lock",
        "requirements.lock",
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_and_has_hashes_and_none_says_where_it_is_from(lock):
    text = lock.read_text()
    assert "".join(found[0] for found in PIN.finditer(text)) == text, "nothing but pins with hashes"
    for word in ("://", "index", "find-links", "@", "-e "):
        assert word not in text


@pytest.mark.parametrize(
    "line",
    ["aiohttp==3.14.5\n", "aiohttp>=3.14 \\\n    --hash=sha256:" + "0" * 64 + "\n", "aiohttp @ https://x\n"],
)
def test_what_is_no_pin_with_hashes_is_noticed(line):
    assert not PIN.fullmatch(line)


def test_every_dependency_has_its_reason_beside_it():
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    named = [*project["project"]["dependencies"]]
    for group in project["dependency-groups"].values():
        named += [one for one in group if isinstance(one, str)]
    for one in named:
        [line] = [line for line in text.splitlines() if f'"{one}"' in line]
        inside = re.search(r"\[.*\]\s+# \w", line) if line.strip()[0] != '"' else re.search(r"# \w", line)
        assert inside or _above(text, line), f"{one}: why?"


def _above(text: str, line: str) -> bool:
    """Or above all of its group."""
    head = text[: text.index(line)].rpartition("= [")[2]
    return head.strip().startswith("#")


def test_everything_that_runs_is_on_the_page_of_reasons():
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", (ROOT / "docs/supply.md").read_text(), re.MULTILINE)
    reasons = dict(row for row in rows if row[0] not in {"package", "---"})
    assert reasons.keys() == set(locked())


# Licences


def test_the_page_of_licences_is_what_the_packages_say():
    assert (ROOT / "docs/licences.md").read_text() == page(), "make licences"


def said(**fields: str) -> Message:
    made = Message()
    for name, value in fields.items():
        made[name.replace("_", "-")] = value
    return made


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "Apache-2.0 AND MIT"}, "Apache-2.0 AND MIT"),
        ({"License": "MIT"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        ({"License": "ISC", "Classifier": "License :: OSI Approved :: BSD License"}, "ISC"),
    ],
)
def test_a_licence_that_goes_with_ours(fields, expected):
    assert licence("one", said(**fields)) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"License_Expression": "GPL-3.0-only"},
        {"License_Expression": "MIT AND AGPL-3.0-or-later"},
        {"License": "LGPL"},
        {"License": "as is"},
        {"Classifier": "License :: OSI Approved :: BSD License"},  # which of them?
        {"Classifier": "License :: Other/Proprietary License"},
        {},
    ],
)
def test_a_licence_that_nobody_has_looked_at_is_a_mistake(fields):
    with pytest.raises(UnknownError, match=r"^one: "):
        licence("one", said(**fields))


def test_no_strong_copyleft_is_allowed():
    assert not [name for name in ALLOWED if "GPL" in name]


# Built again


def test_the_wheel_is_the_same_bytes_wherever_and_whenever_it_is_built(tmp_path):
    digests = set()
    for number, (mode, at) in enumerate([(0o644, 1_000_000_000), (0o600, 1_700_000_000)]):
        folder = tmp_path / f"another place {number}"
        folder.mkdir()
        shutil.copytree(ROOT / "monitor", folder / "monitor", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / name, folder / name)
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(mode)
            os.utime(path, (at, at))
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"],
            cwd=folder,
            env=os.environ | {"SOURCE_DATE_EPOCH": "1763900000"},
            check=True,
            capture_output=True,
        )
        [wheel] = (folder / "dist").iterdir()
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(digests) == 1


# Public continuous integration


def test_the_workflow_may_read_and_nothing_else_and_runs_nobody_else_s_code():
    path = ROOT / ".github/workflows/ci.yml"
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {
        "push",
        "pull_request",
    }  # YAML 1.1 reads `on` as true; no pull_request_target
    assert "secrets." not in path.read_text()
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert "uses" not in step, "an action is a program with the job's token"
            assert "${{" not in step["run"], "what others wrote is no part of a script"
        assert [step["name"] for step in job["steps"] if "env" in step] == ["check out"]


def test_how_to_report_names_nobody_and_no_address():
    text = (ROOT / "SECURITY.md").read_text()
    assert "private security advisories" in text
    assert "@" not in text
    assert "://" not in text

"""The unit is one that systemd takes, hardly exposed, and its command runs the daemon; docs/systemd.md says how."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from containers import ROOT, command

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(120)]

UNIT = ROOT / "deploy/systemd/ultravox-batch-monitor.service"


@pytest.fixture
def unit(tmp_path):
    """The unit with a program that exists here, for systemd looks whether it does."""
    text = UNIT.read_text(encoding="utf-8")
    installed = tmp_path / UNIT.name
    installed.write_text(text.replace("/opt/ultravox-batch-monitor/bin/batch-monitor", sys.executable))
    return installed


def test_systemd_has_nothing_to_say_about_it(unit):
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_hardly_exposed(unit, figures):
    done = command("systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit))
    score = re.search(r"Overall exposure level for \S+: (\S+) (\w+)", done)
    assert score
    assert float(score[1]) <= 1.5
    figures.append(f"systemd-analyze security: {score[1]} {score[2]}")


def test_its_configuration_takes_the_key_from_the_credential(tmp_path):
    (tmp_path / "ultravox_api_key").write_text("01234567.0123456789abcdef0123456789abcdef")
    batch_monitor = shutil.which("batch-monitor", path=str(ROOT / ".venv/bin")) or "batch-monitor"
    said = command(
        *(batch_monitor, "check-config", "deploy/systemd/config.yaml"),
        env={"CREDENTIALS_DIRECTORY": str(tmp_path)},
    )
    assert "no mistakes: 1 account" in said
    assert f"LoadCredential={'ultravox_api_key'}:" in UNIT.read_text(encoding="utf-8")

"""Web access with real processes: a daemon behind TLS and passwords, a real Prometheus that scrapes it, the commands."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
import yaml
from doors import AUTHORITY, HASH, PASSWORD, write_certificate, write_web
from test_stack import eventually, process, prometheus, stage

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

MUTUAL = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}


async def command(*arguments, **environ):
    """Exit code and output of a command."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "monitor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | environ,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("mutual", [False, True], ids=["password", "password and certificate"])
async def test_prometheus_scrapes_over_tls_with_a_password_and_the_commands_ask(tmp_path, mutual):
    served, asking = tmp_path / "served", tmp_path / "asking"
    served.mkdir()
    asking.mkdir()
    web = write_web(served, tls=MUTUAL if mutual else {}, users={"prometheus": HASH})
    asking.joinpath("ca.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    write_certificate(asking, "prometheus.example")
    own = {"cert_file": "cert.pem", "key_file": "key.pem"} if mutual else {}
    http = {
        "basic_auth": {"username": "prometheus", "password": PASSWORD},
        "tls_config": {"ca_file": "ca.pem", **own},
    }
    asking.joinpath("http.yml").write_text(yaml.safe_dump(http))
    files = {key: str(asking / name) for key, name in ({"ca_file": "ca.pem"} | own).items()}
    job = {"scheme": "https", "basic_auth": http["basic_auth"], "tls_config": files}
    async with stage(tmp_path, end="1h", recover="1h", receivers=[]) as staged:
        url = staged.url.replace("http://", "https://")
        run = (
            *(sys.executable, "-m", "monitor", "run", "--config.file", str(staged.config)),
            *("--web.config.file", str(web), "--web.read-only", "--log.level", "debug"),
        )
        async with (
            process(tmp_path, "daemon", *run, env={"KEY": staged.account.api_key}) as daemon,
            prometheus(tmp_path, url, **job) as query,
        ):
            await eventually("it is scraped", lambda: is_one(query, 'up{job="monitor"}'), within=60)
            await eventually(
                "with what it knows", lambda: is_one(query, "count(ultravox_batch_info)"), within=30
            )

            environ = {
                "BATCH_MONITOR_URL": url,
                "BATCH_MONITOR_HTTP_CONFIG_FILE": str(asking / "http.yml"),
                "no_proxy": "*",
            }
            code, said = await command("status", **environ)
            assert (code, "spring" in said) == (0, True), said
            assert (await command("healthcheck", **environ))[0] == 0
            code, said = await command("mute", str(staged.batch.batch_id), "--for", "1h", **environ)
            assert (code, "read only: nothing can be changed over HTTP" in said) == (1, True), said
            code, said = await command("status", "--http.config.file", "", "--url", url, **environ)
            assert code != 0
            assert "spring" not in said

            # The password changes: Prometheus is refused from its next scrape on, and let in again with the old file.
            other = web.read_text().replace(HASH, HASH[:-1] + ("a" if HASH[-1] != "a" else "b"))
            right = web.read_text()
            web.write_text(other)
            daemon.send_signal(signal.SIGHUP)
            await eventually("it is refused", lambda: is_one(query, 'up{job="monitor"} == bool 0'), within=30)
            web.write_text(right)
            daemon.send_signal(signal.SIGHUP)
            # Its wrong tries have used up those of its address: they come back one in six seconds.
            await eventually("it is let in", lambda: is_one(query, 'up{job="monitor"}'), within=90)
        assert daemon.returncode == 0
    log = tmp_path.joinpath("daemon.log").read_text()
    assert PASSWORD not in log
    assert HASH not in log
    assert "key.pem" not in log
    assert "Traceback" not in log


async def is_one(query, expression):
    return await query(expression) == 1

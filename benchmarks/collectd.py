"""A peer: collectd, a daemon in C, which polls JSON (curl_json) and is scraped (write_prometheus)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.api import agent_id, api_key, batch_id
from benchmarks.processes import Running, ending, free_port

INSTALL = "collectd-core libcurl3-gnutls libyajl2 libmicrohttpd12 libprotobuf-c1"
"""Debian's packages of it and of what those two plugins need."""

URLS = 300
"""As many as it can be scraped with: from some 340 on it answers no scrape."""

_HEAD = """
BaseDir "{folder}"
PIDFile "{folder}/pid"
Interval 1
ReadThreads 50
LoadPlugin curl_json
LoadPlugin write_prometheus
<Plugin write_prometheus>
  Port "{port}"
</Plugin>
<Plugin curl_json>
"""
_URL = """  <URL "{url}">
    Instance "b{number}"
    Header "X-API-Key: {key}"
    <Key "totalCount">
      Type "gauge"
    </Key>
    <Key "completedCount">
      Type "gauge"
    </Key>
  </URL>
"""


def find() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("collectd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextlib.contextmanager
def polling(program: str, base_url: str, folder: Path) -> Iterator[Running]:
    """It asks for each of its batches once a second."""
    urls = (
        _URL.format(
            url=f"{base_url}/api/agents/{agent_id(number)}/scheduled_batches/{batch_id(number)}",
            number=number,
            key=api_key(0),
        )
        for number in range(URLS)
    )
    path = folder / "collectd.conf"
    path.write_text(_HEAD.format(folder=folder, port=free_port()) + "".join(urls) + "</Plugin>\n")
    with (folder / "collectd.log").open("w") as log:
        process = subprocess.Popen([program, "-f", "-C", str(path)], stdout=log, stderr=log, text=True)  # noqa: S603 - collectd itself, where find() found it
        with ending(process):
            yield Running(process)

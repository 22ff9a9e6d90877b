"""The commands that ask a running daemon something."""

from __future__ import annotations

import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime
from typing import Any

import click

from monitor import __version__
from monitor.cli.http_client import ask, daemon_options
from monitor.cli.shared import fail

_HTTP_TIMEOUT = 10.0
_HEALTH_TIMEOUT = 4.0  # less than container runtimes give a health check
_TEST_TIMEOUT = 90.0  # a receiver that hangs is waited for by the daemon first


@click.command()
@daemon_options
def status(url: str) -> None:
    """Show the batches of a running daemon, the worst first, and the alerts that fire.

    \b
    Example: batch-monitor status --url http://monitor.example:10042
    """
    from rich.console import Console

    from monitor import top

    console = Console()
    data, alerts = _ask(url, "batches"), _ask(url, "alerts")
    try:
        head = f"Ultravox Batch Monitor {data['version']} at {url}"
        picture = top.screen(data, alerts["alerts"], head, width=console.width)
    except (LookupError, TypeError, ValueError):
        fail(f"{url} answers something else than a batch monitor of version {__version__} does")
    console.print(picture)


@click.command()
@click.argument("batch_id")
@daemon_options
def explain(batch_id: str, url: str) -> None:
    """Say why each alert of a batch fires or does not, with the numbers, and when it would.

    BATCH_ID is the batch's id, or as much of its beginning as no other batch has.

    \b
    Example: batch-monitor explain 3c90c3cc
    """
    from rich.console import Console

    from monitor import top

    data = _ask(url, "explain?" + urllib.parse.urlencode({"batch_id": batch_id}))
    try:
        picture = top.explained(data)
    except (LookupError, TypeError, ValueError):
        fail(f"{url} answers something else than a batch monitor of version {__version__} does")
    Console().print(picture)


@click.command()
@click.argument("batch_id")
@click.option("--for", "duration", required=True, metavar="DURATION", help="Like 30m, 2h or 1h30m.")
@daemon_options
def mute(batch_id: str, duration: str, url: str) -> None:
    """Hold all messages of a batch for a while.

    What still fires when the mute ends is told then, and so is every end of the batch itself. What began and
    ended in between is not. BATCH_ID is the batch's id, or as much of its beginning as no other batch has.

    \b
    Example: batch-monitor mute 3c90c3cc --for 2h
    """
    from monitor import words
    from monitor.config.values import as_duration

    try:
        seconds = as_duration(duration).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None
    data = _ask(url, "mutes", {"batch_id": batch_id, "for_seconds": seconds})
    until = words.instant(datetime.fromisoformat(data["until"]))
    click.echo(f"{data.get('batch')} is muted until {until}")


@click.command()
@click.argument("batch_id")
@daemon_options
def unmute(batch_id: str, url: str) -> None:
    """End a mute now: what was held is told.

    \b
    Example: batch-monitor unmute 3c90c3cc
    """
    data = _ask(url, "mutes", {"batch_id": batch_id, "for_seconds": 0})
    click.echo(f"{data.get('batch')} is not muted")


@click.command("test-alert")
@click.option("--receiver", help="Only this one.")
@daemon_options
def test_alert(receiver: str | None, url: str) -> None:
    """Send a marked test alert through every receiver, past all queues, filters and mutes.

    Says for each whether it was delivered, or why not; exits with 1 if one was not.

    \b
    Example: batch-monitor test-alert --receiver ops-chat
    """
    data = _ask(url, "test-alert", {} if receiver is None else {"receiver": receiver}, timeout=_TEST_TIMEOUT)
    found = data.get("receivers")
    if not found:
        fail("no receiver is configured: alerts are in the log, the metrics and on the page only")
    width = max(len(one["receiver"]) for one in found)
    for one in found:
        came_of_it = (
            f"NOT DELIVERED: {one['error']}" if one["error"] else f"delivered in {one['seconds']:.2f} s"
        )
        click.echo(f"{one['receiver']:<{width}}  {came_of_it}")
    if any(one["error"] for one in found):
        sys.exit(1)


@click.command()
@daemon_options
def healthcheck(url: str) -> None:
    """Exit with 0 if a daemon is healthy, else with 1: for the health checks of containers.

    Healthy means that its scheduler runs jobs. An Ultravox that does not answer makes no daemon unhealthy.

    \b
    Example: batch-monitor healthcheck
    """
    try:
        # Not through a proxy, which knows another localhost.
        with ask(_address(url, "/-/healthy"), timeout=_HEALTH_TIMEOUT, proxies=False):
            click.echo("healthy")
    except urllib.error.HTTPError as error:
        with error:
            fail(error.read(200).decode(errors="replace").strip() or f"{url} answers {error.code}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        fail(f"unhealthy: no daemon answers at {url} ({reason})")


def _ask(
    url: str, what: str, body: dict[str, Any] | None = None, *, timeout: float = _HTTP_TIMEOUT
) -> dict[str, Any]:
    """The `data` of one of the daemon's answers; ends the command when there is none. With a body it is POSTed."""
    try:
        request = urllib.request.Request(  # noqa: S310 - http or https: _address
            _address(url, f"/api/v1/{what}"),
            data=None if body is None else json.dumps(body).encode(),
            headers={} if body is None else {"Content-Type": "application/json"},
        )
        with ask(request, timeout=timeout) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            data.keys()  # AttributeError: it is none of ours
    except urllib.error.HTTPError as error:
        with error:
            fail(_told(error) or f"{url} answers {error.code} {error.reason}: is it a batch monitor?")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        fail(
            f"no daemon answers at {url} ({reason}); start one with `batch-monitor run`, or name it with --url"
        )
    return data


def _address(url: str, path: str) -> str:
    if not url.startswith(("http://", "https://")):
        fail(f"{url} is no address of a daemon: write it as http://HOST:PORT")
    return url.rstrip("/") + path


def _told(answer: urllib.error.HTTPError) -> str | None:
    """What the daemon itself says is wrong with the question."""
    try:
        text = json.load(answer)["error"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return text if isinstance(text, str) else None

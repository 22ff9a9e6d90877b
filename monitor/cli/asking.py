"""The commands that ask a running daemon something."""

from __future__ import annotations

import http.client
import sys
import urllib.error
from datetime import datetime
from typing import Any

import click

from monitor import __version__, remote
from monitor.cli.completing import batch_ids, receivers
from monitor.cli.shared import fail, url_option

_HEALTH_TIMEOUT = 4.0  # less than container runtimes give a health check
_TEST_TIMEOUT = 90.0  # a receiver that hangs is waited for by the daemon first


@click.command(short_help="Say why each alert of a batch fires or does not.")
@click.argument("batch_id", shell_complete=batch_ids)
@url_option
def explain(batch_id: str, url: str) -> None:
    """Say why each alert of a batch fires or does not, with the numbers, and when it would.

    BATCH_ID is the batch's id, or as much of its beginning as no other batch has.

    \b
    Example: batch-monitor explain 3c90c3cc
    """
    from monitor import top

    console, marks = top.console()
    data = _ask(url, "explain", {"batch_id": batch_id})
    try:
        picture = top.explained(data, marks)
    except (LookupError, TypeError, ValueError):
        fail(f"{url} answers something else than a batch monitor of version {__version__} does")
    console.print(picture)


@click.command()
@click.argument("batch_id", shell_complete=batch_ids)
@click.option("--for", "duration", required=True, metavar="DURATION", help="Like 30m, 2h or 1h30m.")
@url_option
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
    data = _ask(url, "mutes", body={"batch_id": batch_id, "for_seconds": seconds})
    until = words.instant(datetime.fromisoformat(data["until"]))
    click.echo(f"{data.get('batch')} is muted until {until}")


@click.command()
@click.argument("batch_id", shell_complete=batch_ids)
@url_option
def unmute(batch_id: str, url: str) -> None:
    """End a mute now: what was held is told.

    \b
    Example: batch-monitor unmute 3c90c3cc
    """
    data = _ask(url, "mutes", body={"batch_id": batch_id, "for_seconds": 0})
    click.echo(f"{data.get('batch')} is not muted")


@click.command("test-alert", short_help="Send a marked test alert through every receiver.")
@click.option("--receiver", shell_complete=receivers, help="Only this one.")
@url_option
def test_alert(receiver: str | None, url: str) -> None:
    """Send a marked test alert through every receiver, past all queues, filters and mutes.

    Says for each whether it was delivered, or why not; exits with 1 if one was not.

    \b
    Example: batch-monitor test-alert --receiver ops-chat
    """
    data = _ask(
        url, "test-alert", body={} if receiver is None else {"receiver": receiver}, timeout=_TEST_TIMEOUT
    )
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


@click.command(short_help="Exit with 0 if a daemon is healthy: for containers.")
@url_option
def healthcheck(url: str) -> None:
    """Exit with 0 if a daemon is healthy, else with 1: for the health checks of containers.

    Healthy means that its scheduler runs jobs. An Ultravox that does not answer makes no daemon unhealthy.

    \b
    Example: batch-monitor healthcheck
    """
    try:
        # Not through a proxy, which knows another localhost.
        with remote.opened(remote.address(url, "/-/healthy"), timeout=_HEALTH_TIMEOUT, proxies=False):
            click.echo("healthy")
    except remote.NoAnswerError as error:
        fail(str(error))
    except urllib.error.HTTPError as error:
        with error:
            fail(error.read(200).decode(errors="replace").strip() or f"{url} answers {error.code}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        fail(f"unhealthy: no daemon answers at {url} ({remote.reason_of(error)})")


def _ask(
    url: str,
    what: str,
    query: dict[str, str] | None = None,
    *,
    body: dict[str, Any] | None = None,
    timeout: float = remote.TIMEOUT,
) -> dict[str, Any]:
    """The `data` of one of the daemon's answers; ends the command when there is none."""
    try:
        return remote.ask(url, what, query, body=body, timeout=timeout)
    except remote.NoAnswerError as error:
        fail(str(error))

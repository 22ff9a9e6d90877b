"""The commands that look at a running daemon: once, or for as long as one likes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from monitor.choice import ANY, WORST_FIRST, Sort, asked
from monitor.cli import verdict
from monitor.cli.completing import accounts
from monitor.cli.shared import fail, url_option
from monitor.model import AlertName

if TYPE_CHECKING:
    from monitor.top import View


class _AskedWronglyError(click.UsageError):
    exit_code = int(verdict.Verdict.UNKNOWN)


class _Check(click.Command):
    """A command whose exit code 2 means critical: asked wrongly is 3, as monitoring plugins have it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, but for the exit code of a mistake."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _AskedWronglyError(error.format_message(), error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """The same: some mistakes are seen later."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _AskedWronglyError(error.format_message(), error.ctx) from None


def _complete_sorts(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(sort.value) for sort in Sort if sort.startswith(begun)]


def _complete_states(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    before, comma, last = begun.rpartition(",")
    return [CompletionItem(before + comma + state) for state in WORST_FIRST if state.startswith(last)]


def _complete_alerts(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in (ANY, *AlertName) if name.startswith(begun)]


_Command = TypeVar("_Command", bound=Callable[..., None])


def _chosen(command: _Command) -> _Command:
    """The options by which batches are chosen and ordered, as in the URL of the page."""
    for option in reversed(
        (
            click.option(
                "--sort",
                default=Sort.WORST.value,
                show_default=True,
                shell_complete=_complete_sorts,
                help=f"Order: {', '.join(Sort)}; with a minus sign before it, the other way round.",
            ),
            click.option(
                "--state",
                "states",
                default="",
                metavar="STATE[,STATE]",
                shell_complete=_complete_states,
                help=f"Only these: {', '.join(WORST_FIRST)}.",
            ),
            click.option("--account", default="", shell_complete=accounts, help="Only of this account."),
            click.option(
                "--firing",
                default="",
                is_flag=False,
                flag_value=ANY,
                metavar="[ALERT]",
                shell_complete=_complete_alerts,
                help="Only those of which an alert fires: any, or this one.",
            ),
            click.option(
                "--search",
                default="",
                metavar="WORDS",
                help="Only those with all these words in name, agent, account, ids, throttle or labels.",
            ),
        )
    ):
        command = option(command)
    return command


def _view(sort: str, states: str, account: str, firing: str, search: str) -> View:
    """What the options ask for; they mean what they mean in the page's URL."""
    from monitor.top import View

    query = {"sort": sort, "state": states, "account": account, "firing": firing, "q": search}
    try:
        choice = asked(query)
    except ValueError as error:
        name, _, text = str(error).partition("=")
        raise click.UsageError(f"--{name} {text}") from None
    return View(
        states=",".join(choice.states),
        account=account,
        firing=firing,
        search=choice.search,
        sort=choice.sort,
        reverse=choice.reverse,
    )


@click.command(cls=_Check, short_help="Show the batches once; the exit code says how bad it is.")
@_chosen
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How."
)
@url_option
def status(sort: str, states: str, account: str, firing: str, search: str, output: str, url: str) -> None:
    """Show the batches of a running daemon once, and what fires; the exit code says how bad it is.

    It judges everything that was asked for, as plugins of monitoring systems do:

    \b
      0  all is well: batches wait, run, are paused or have ended, and nothing fires that is worse than info
      1  warning: a batch is stalled, gone or at risk of missing its window, or a warning fires
      2  critical: a batch is overdue, or a critical alert fires
      3  it cannot be told: no daemon answers, nothing matches, nothing has been seen yet, or it was asked wrongly

    \b
    Example: batch-monitor status --state stalled,overdue
    Example: batch-monitor status --search renewals -o json
    """
    from monitor import remote, top

    view = _view(sort, states, account, firing, search)
    console, marks = top.console()
    try:
        if output == "json":
            data = remote.ask(url, "batches", view.query())
            data["alerts"] = remote.ask(url, "alerts")["alerts"]
            found = _judged(data, view)
            click.echo(json.dumps(data, indent=2))
        else:
            known = top.read(top.Known(url), view, marks, part=None, alerts=None)
            found = _judged(known.data, view)
            top.print_whole(console, known, view, marks)
    except remote.NoAnswerError as error:
        fail(str(error), verdict.Verdict.UNKNOWN)
    except (LookupError, TypeError, ValueError, AttributeError):
        fail(
            f"{url} answers something else than a batch monitor of this version does", verdict.Verdict.UNKNOWN
        )
    sys.exit(int(found))


def _judged(data: dict[str, Any], view: View) -> verdict.Verdict:
    return verdict.judged(data, states=view.states, account=view.account, narrowed=bool(view.narrowed))


@click.command(short_help="Follow a running daemon in the terminal.")
@_chosen
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the daemon is asked.",
)
@url_option
def watch(sort: str, states: str, account: str, firing: str, search: str, interval: float, url: str) -> None:
    """Follow a running daemon in the terminal: what its page shows, kept fresh.

    Keys choose, order and search; ? lists them, q leaves. While the daemon does not answer, the last picture stays,
    marked as old. NO_COLOR in the environment takes the colours away.

    \b
    Example: batch-monitor watch --firing
    Example: batch-monitor watch --url http://monitor.example:10042 --sort window
    """
    import asyncio
    import signal

    from monitor import clock, remote, top

    view = _view(sort, states, account, firing, search)
    console, marks = top.console()
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        try:
            known = top.read(top.Known(url), view, marks, part=None, alerts=None)
        except remote.NoAnswerError as error:
            fail(str(error))
        top.print_whole(console, known, view, marks)
        fail("There is no terminal to draw in: this was printed once, as `batch-monitor status` does it")
    try:
        remote.address(url, "")
    except remote.NoAnswerError as error:
        fail(str(error))

    async def follow() -> None:
        follower = top.Follower(url, console, marks, view, interval=interval, clock=clock.utc_now)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, follower.stop)
        await follower.run()

    asyncio.run(follow())

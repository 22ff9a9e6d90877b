"""What the shell is told when somebody presses Tab: ids, receivers and accounts of the running daemon.

Never an error and never a wait: whoever presses Tab has no daemon to be told of.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
)

from monitor import remote
from monitor.cli.shared import COMPLETE, URL

_PATIENCE = 0.8
"""Seconds. Name servers know no timeouts: the answer is waited for beside the thread that asks."""

_MOST = 60
"""Batches that are offered. More is no choice."""

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the completion of this command for a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what completes this command in a shell: commands, options, ids of batches, receivers.

    Ids and names come from the daemon at --url, or at the usual address; without one nothing is offered. Start a
    new shell after putting it into its place:

    \b
      bash  batch-monitor completion bash > ~/.local/share/bash-completion/completions/batch-monitor
      zsh   batch-monitor completion zsh > ~/.zfunc/_batch-monitor
            with this in ~/.zshrc: fpath+=(~/.zfunc); autoload -Uz compinit; compinit
      fish  batch-monitor completion fish > ~/.config/fish/completions/batch-monitor.fish

    bash needs its package bash-completion for that; without it: source <(batch-monitor completion bash).

    \b
    Example: batch-monitor completion bash
    """
    of_click = get_completion_class(shell)
    if of_click is None:  # it knows all three
        raise click.UsageError(f"there is no completion for {shell}")
    # The name by which it is called, not the path by which it was called now.
    root = click.get_current_context().find_root()
    script = of_click(root.command, {}, "batch-monitor", COMPLETE).source_template
    click.echo(
        script
        % {
            "complete_func": "_batch_monitor_completion",
            "complete_var": COMPLETE,
            "prog_name": "batch-monitor",
        }
    )


@add_completion_class
class _Bash(BashComplete):
    """click's, for a bash that takes an address apart at its colons (COMP_WORDBREAKS has them)."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is begun, and that one."""
        words, place = os.environ["COMP_WORDS"].split("\n"), int(os.environ["COMP_CWORD"])
        os.environ["COMP_WORDS"] = "\n".join(words).replace("\n:\n", ":")
        os.environ["COMP_CWORD"] = str(place - 2 * words[:place].count(":"))
        return super().get_completion_args()


def batch_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Ids that begin like this, or those of batches with this in their names."""
    data = _asked(context, {"q": begun, "limit": str(_MOST)})
    return _items(
        data,
        lambda data: (
            (batch["batch_id"], f"{batch['batch']} ({batch['state']})") for batch in data["batches"]
        ),
        begun,
    )


def receivers(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Receivers whose names begin like this."""
    data = _asked(context, {"limit": "1"})
    return _items(data, lambda data: ((queue["receiver"], "") for queue in data["receivers"]), begun)


def accounts(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Accounts whose names begin like this."""
    data = _asked(context, {"limit": "1"})
    return _items(data, lambda data: ((account["account"], "") for account in data["accounts"]), begun)


def _items(
    data: dict[str, Any], pairs: Callable[[dict[str, Any]], Iterable[tuple[str, str]]], begun: str
) -> list[CompletionItem]:
    try:
        found = [(_line(value), _line(text)) for value, text in pairs(data)]
    except (LookupError, TypeError, AttributeError):  # it is no batch monitor
        return []
    return [CompletionItem(value, help=text or None) for value, text in found if value.startswith(begun)]


def _line(text: str) -> str:
    """Shells get a line for each: what is in it must not end it, nor obey."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def _asked(context: click.Context, query: dict[str, str]) -> dict[str, Any]:
    url = context.params.get("url") or URL
    found: list[dict[str, Any]] = []

    def ask() -> None:
        with contextlib.suppress(Exception):  # a shell would show it in the midst of the line
            found.append(remote.ask(url, "batches", query, timeout=_PATIENCE))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return found[0] if found else {}

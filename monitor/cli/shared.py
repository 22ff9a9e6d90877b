"""What all commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import click

from monitor import words
from monitor.cli.http_client import http_config_file

URL = "http://localhost:10042"
"""Where a daemon answers unless it is told otherwise."""

COMPLETE = "_BATCH_MONITOR_COMPLETE"
"""The variable by which a shell asks what completes a line. click makes it of the command's name."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def url_option(command: _Command) -> _Command:
    """`--url`, which the command gets, and `--http.config.file`, which it need not know of."""
    url = click.option(
        "--url",
        envvar="BATCH_MONITOR_URL",
        show_envvar=True,
        default=URL,
        show_default=True,
        help="Where the daemon answers.",
    )
    return url(http_config_file(command))


def fail(text: str, code: int = 1) -> NoReturn:
    """End the command: what is wrong goes to stderr, the exit code is 1 unless the command has others."""
    click.echo(text, err=True)
    sys.exit(code)


class Commands(click.Group):
    """The command itself: alone it prints its help, and of a command that there is not it says which is meant.

    `elsewhere`: commands by the module that has them, which is imported when one of them is asked for.
    """

    def __init__(
        self, *args: Any, elsewhere: Mapping[str, str] = MappingProxyType({}), **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._elsewhere = elsewhere

    def main(self, *args: Any, **options: Any) -> Any:
        """As click does. It chooses what completes for a shell before it asks for any command: ours must be there."""
        if COMPLETE in os.environ:
            import_module("monitor.cli.completing")
        return super().main(*args, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As click does."""
        return sorted({*super().list_commands(ctx), *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """As click does."""
        if cmd_name not in self.commands and cmd_name in self._elsewhere:
            found = getattr(import_module(self._elsewhere[cmd_name]), cmd_name.replace("-", "_"))
            self.add_command(found, cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but for what is said of a mistake."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            near = words.nearest(name, self.list_commands(ctx))
            meant = f" Did you mean `{ctx.command_path} {near}`?" if near else ""
            raise click.UsageError(f"There is no command {name}.{meant}", ctx)
        return super().resolve_command(ctx, args)

"""Every command there is, by its name: some are not loaded before they are asked for."""

from __future__ import annotations

import click

from monitor.cli import cli

_CONTEXT = click.Context(cli)
COMMANDS = {name: cli.get_command(_CONTEXT, name) for name in cli.list_commands(_CONTEXT)}

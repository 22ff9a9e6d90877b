"""What all commands share."""

from __future__ import annotations

import sys
from typing import NoReturn

import click


def fail(text: str) -> NoReturn:
    """End the command: what is wrong goes to stderr, the exit code is 1."""
    click.echo(text, err=True)
    sys.exit(1)

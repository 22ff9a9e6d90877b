"""The options of `run` that split accounts over several processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from monitor.cli import http_client

if TYPE_CHECKING:
    from monitor.handover import Sharding

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SHARD = click.option(
    "--shard",
    metavar="I/N",
    help="Watch only this shard's accounts, of N shards, I from 0. I may be a pod's name that ends in -I.",
)
_PEERS = click.option(
    "--shard.peers",
    "shard_peers",
    metavar="URL",
    help="Where the other shards answer, with {shard} for their I. Without it an account that moves begins anew.",
)
_HTTP_CONFIG_FILE = click.option(
    "--shard.http.config.file",
    "shard_http_config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="How they are asked: password and TLS, in the format of Prometheus' HTTP clients.",
)


def sharding_options(command: _Command) -> _Command:
    """`--shard`, `--shard.peers` and `--shard.http.config.file`."""
    return _SHARD(_PEERS(_HTTP_CONFIG_FILE(command)))


def sharding_of(shard: str | None, peers: str | None, http_config_file: Path | None) -> Sharding | None:
    """What the options say; None: accounts are not split. click.UsageError when they say nothing that makes sense."""
    from monitor.handover import Sharding
    from monitor.shards import parse

    if shard is None:
        if peers is not None or http_config_file is not None:
            raise click.UsageError("--shard.peers and --shard.http.config.file need --shard=I/N")
        return None
    try:
        found = parse(shard)
    except ValueError as error:
        raise click.UsageError(f"--shard: {error}") from None
    if peers is None:
        return Sharding(found)
    if not peers.startswith(("http://", "https://")) or "{shard}" not in peers:
        raise click.UsageError(
            "--shard.peers: must be an address with {shard} in it: http://monitor-{shard}.monitor:10042"
        )
    if http_config_file is None:
        return Sharding(found, peers)
    given = http_client.read(http_config_file)
    return Sharding(found, peers, given.authorization, http_client.context(given), given.server_name)

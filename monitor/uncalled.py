"""The people of a batch that were not called, or not with success: read from Ultravox, printed, stored nowhere.

What is shown here (numbers, metadata, error texts) is shown nowhere else.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.clock import Clock
from monitor.config import Config
from monitor.model import BatchKey, CallStatus, FailureReason
from monitor.ultravox import Call, Client, UltravoxError

STATUSES = (CallStatus.ERROR, CallStatus.EXPIRED, CallStatus.FUTURE)
"""What counts as uncalled. FUTURE may still be made, as long as the batch has not ended."""


class NotFoundError(Exception):
    """No account of the configuration knows the batch."""


async def read(config: Config, batch_id: str, *, clock: Clock) -> tuple[Call, ...]:
    """The batch's uncalled calls. NotFoundError; UltravoxError when Ultravox does not answer."""
    batch_id, refused = batch_id.lower(), None
    named = {
        account.name: watch.key
        for account in config.accounts
        for watch in account.watches
        if watch.key.batch_id == batch_id
    }
    async with AsyncExitStack() as open_clients:
        for account in sorted(config.accounts, key=lambda account: account.name not in named):
            client = Client(account.api, clock=clock)
            open_clients.push_async_callback(client.close)
            try:
                key = named.get(account.name) or await _find(client, batch_id)
            except UltravoxError as error:
                refused = refused or error  # another account may have it all the same
                continue
            if key is not None:
                return await _uncalled(client, key)
    if refused is not None:
        raise refused
    names = ", ".join(account.name for account in config.accounts)
    raise NotFoundError(f"no agent of {names} has a batch {batch_id}; give its whole id, a UUID")


async def _uncalled(client: Client, key: BatchKey) -> tuple[Call, ...]:
    found: list[Call] = []
    for status in STATUSES:
        async with aclosing(client.list_calls(key, status)) as calls:
            found += [call async for call in calls]
    return tuple(found)


async def _find(client: Client, batch_id: str) -> BatchKey | None:
    """The batch among those of every agent of an account."""
    for agent in await client.list_agents():
        key = BatchKey(agent.agent_id, batch_id)
        try:
            await client.get_batch(key)
        except UltravoxError as error:
            if error.reason not in {FailureReason.NOT_FOUND, FailureReason.CLIENT_ERROR}:
                raise
        else:
            return key
    return None


def write_csv(calls: Iterable[Call], to: TextIO) -> None:
    """A line for each call, with a column for each key of the metadata."""
    rows = tuple(calls)
    names = sorted({name for call in rows for name, _ in call.metadata})
    writer = csv.writer(to)
    writer.writerow(["status", "destination", "error", *map(_shown, names)])
    for call in rows:
        metadata = dict(call.metadata)
        cells = [call.status.value, call.destination or "", call.error or ""]
        writer.writerow([_shown(cell) for cell in [*cells, *(metadata.get(name, "") for name in names)]])


def print_table(calls: Sequence[Call], console: Console) -> None:
    """The same for people."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("STATUS", no_wrap=True)
    table.add_column("DESTINATION", no_wrap=True)
    table.add_column("ERROR", overflow="fold")
    table.add_column("METADATA", overflow="fold")
    for call in calls:
        metadata = ", ".join(f"{name}={value}" for name, value in call.metadata)
        cells = (call.status.value, call.destination or "", call.error or "", metadata)
        table.add_row(*(Text(_shown(cell)) for cell in cells))
    console.print(table)


def _shown(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(char if char.isprintable() else "�" for char in text)

"""The API clients of the accounts: made, counted, replaced when their settings change, closed when nobody asks any more."""

from __future__ import annotations

import asyncio

from monitor.alerts import Policy
from monitor.metrics import code_label
from monitor.poller import Book
from monitor.ultravox import ApiSettings, Client


class Clients:
    """One for each account in the book, which watches an account from when it has one."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._settings: dict[str, ApiSettings] = {}
        self._large = asyncio.Lock()

    async def use(self, settings: ApiSettings, policy: Policy) -> None:
        """Watch this account from now on, or go on by these settings."""
        name = settings.account
        present = self._book.accounts.get(name)
        client = before = present.client if present else None
        if client is None or self._settings.get(name) != settings:
            client = Client(
                settings,
                clock=self._book.clock,
                on_response=lambda endpoint, code: self._count_request(name, endpoint, code),
                on_throttled=lambda seconds: self._count_throttled(name, seconds),
                large=self._large,
            )
            self._settings[name] = settings
        await self._book.watch_account(name, client, policy)
        if before is not None and before is not client:
            await before.retire()

    async def forget(self, name: str) -> None:
        """Watch this account no longer. What is still being asked for it is let end."""
        client = self._book.accounts[name].client
        await self._book.unwatch_account(name)
        del self._settings[name]
        await client.retire()

    async def close(self) -> None:
        """Close the connections of all of them."""
        await asyncio.gather(*(account.client.close() for account in self._book.accounts.values()))

    def _count_request(self, account: str, endpoint: str, code: int | None) -> None:
        if account in self._book.accounts:  # an answer may come after its account was dropped
            self._book.instruments.api_requests.labels(account, endpoint, code_label(code)).inc()

    def _count_throttled(self, account: str, seconds: float) -> None:
        if account in self._book.accounts:
            self._book.instruments.api_throttled.labels(account).inc(seconds)

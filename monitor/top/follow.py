"""The view that stays: asks the daemon again and again, draws what it says, does what keys say.

The terminal is given back as it was, however this ends; also while the process is suspended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

from monitor import remote
from monitor.choice import WORST_FIRST
from monitor.clock import Clock
from monitor.remote import NoAnswerError
from monitor.top import picture
from monitor.top.keys import Keyboard
from monitor.top.marks import Marks
from monitor.top.picture import Known
from monitor.top.view import Offer, View, pressed

PATIENCE = 5.0
"""Seconds that an answer may take."""

_ESCAPE = 0.05
"""Seconds after which an escape begins no sequence."""

_PROOF = 20
"""Batches that are drawn to see whether the answer is one of a daemon of this version."""

_Result = TypeVar("_Result")


def read(known: Known, view: View, marks: Marks, *, part: int | None, alerts: int | None) -> Known:
    """What the daemon answers now: so many batches and alerts, or all of them. NoAnswerError."""
    timeout = PATIENCE if part is not None else remote.TIMEOUT  # all of thousands may take longer
    data = remote.ask(known.url, "batches", view.query(part), timeout=timeout)
    query = {"state": "firing"} | ({} if alerts is None else {"limit": str(alerts)})
    answer = remote.ask(known.url, "alerts", query, timeout=timeout)
    fresh = replace(known, data=data, lost=None, asked=view, part=part or 0, alerts=(), firing=0)
    try:
        firing = [alert for alert in answer["alerts"] if alert["state"] == "firing"]
        fresh = replace(fresh, alerts=tuple(firing), firing=answer["firing"])
        some = data | {"batches": data["batches"][:_PROOF]}
        picture.whole(replace(fresh, data=some), view, marks, 80)  # what can be drawn once can be drawn again
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        reason = "it answers something else than a batch monitor of this version does"
        raise NoAnswerError(f"{known.url}: {reason}", reason) from None
    return fresh


class Follower:
    """A terminal on which a daemon is followed."""

    def __init__(
        self,
        url: str,
        console: Console,
        marks: Marks,
        view: View,
        *,
        interval: float,
        clock: Clock,
        note: str = "",
    ) -> None:
        self._console, self._marks, self._view = console, marks, view
        self._interval, self._clock = interval, clock
        self._known = Known(url, every=interval, note=note)
        self._changed, self._asked, self._over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._keyboard = Keyboard(0) if os.isatty(0) else None
        self._held = contextlib.ExitStack()
        self._live: Live | None = None
        self._answered = self._lost = 0.0  # loop clock

    def stop(self) -> None:
        """Leave."""
        self._over.set()
        self._changed.set()

    async def run(self) -> Known:
        """Until it is left, or stopped; returns what was known last."""
        loop = asyncio.get_running_loop()
        asking = asyncio.create_task(self._ask_on())
        try:
            with self._signals(loop), self._held:
                self._take(loop)
                while not self._over.is_set():
                    self._draw(loop.time())
                    if asking.done():
                        break
                    with contextlib.suppress(TimeoutError):  # ages grow by the second
                        await asyncio.wait_for(self._changed.wait(), 1.0)
                    self._changed.clear()
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking  # an exception of its own is ours
        return self._known

    # The daemon

    async def _ask_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._asked.clear()
            view, known = self._view, self._known
            width, height = self._console.size
            part = picture.rows_that_fit(known, view, self._marks, width, height)
            alerts = picture.alerts_that_fit(height)
            try:
                fresh = await _aside(
                    lambda known=known, view=view, part=part, alerts=alerts: read(  # type: ignore[misc]  # mypy infers no lambda with defaults
                        known, view, self._marks, part=part, alerts=alerts
                    )
                )
            except NoAnswerError as error:
                if self._known.lost is None:
                    self._lost = loop.time()
                    self._known = replace(self._known, lost_at=self._clock().astimezone())
                self._known = replace(self._known, lost=error.reason)
            else:
                self._known, self._answered = fresh, loop.time()
            self._changed.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._interval)

    def _ask_again(self) -> None:
        self._asked.set()
        self._changed.set()

    # The terminal

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._keyboard is not None:
            self._held.enter_context(self._keyboard.taken())
            loop.add_reader(self._keyboard.file, self._read, self._keyboard)
            self._held.callback(loop.remove_reader, self._keyboard.file)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._held.enter_context(self._live)

    def _draw(self, now: float) -> None:
        if self._known.data:
            self._known = replace(self._known, age=timedelta(seconds=now - self._answered))
        if self._known.lost is not None:
            self._known = replace(self._known, lost_for=timedelta(seconds=now - self._lost))
        width, height = self._console.size
        lines = picture.screen(self._known, self._view, self._marks, width, height)
        if self._live is not None:
            self._live.update(joined(lines), refresh=True)

    @contextlib.contextmanager
    def _signals(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        loop.add_signal_handler(signal.SIGWINCH, self._ask_again)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            loop.remove_signal_handler(signal.SIGTSTP)

    def _suspend(self) -> None:
        """Ctrl-Z: the shell gets its terminal as it was, and we take it again when we go on."""
        self._held.close()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take(asyncio.get_running_loop())
        self._ask_again()

    # Keys

    def _read(self, keyboard: Keyboard) -> None:
        keys = keyboard.read()
        if keys is None:
            self.stop()
            return
        self._press(keys)
        if keyboard.unsure:
            asyncio.get_running_loop().call_later(_ESCAPE, lambda: self._press(keyboard.settle()))

    def _press(self, keys: Iterable[str]) -> None:
        for key in keys:
            view = pressed(self._view, key, self._offer())
            if view is None:
                self.stop()
                return
            if view.query() != self._view.query() or view.first != self._view.first:
                self._asked.set()
            self._view = view
            self._changed.set()

    def _offer(self) -> Offer:
        data = self._known.data
        if not data:
            return Offer()
        return Offer(
            accounts=tuple(account["account"] for account in data["accounts"]),
            states=tuple(state.value for state in WORST_FIRST if data["states"].get(state.value)),
            matching=data["matching"],
            rows=max(1, self._known.part),
        )


def joined(lines: Iterable[Text]) -> Text:
    """One text that is never wrapped."""
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


async def _aside(work: Callable[[], _Result]) -> _Result:
    """On a thread that nobody waits for at the end: an answer may hang, who leaves must not."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # without an error there is one

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - it is raised again where it is waited for
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: who asked has left
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="asks the daemon", daemon=True).start()
    return await done

"""Reads the configuration anew, on demand and when its files change, and has it taken over, or refused as a whole.

What is new in it, and what becomes of what is running, is the app's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar

from monitor.config import Config, ConfigError, Files
from monitor.store.worker import Worker
from monitor.systemd import Systemd
from monitor.targets import TooManyDroppedError
from monitor.web import ReloadRefusedError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Plan = TypeVar("_Plan")

FILE_CHECK = 10.0
"""Seconds between two looks at the configuration's files."""

FILE_PATIENCE = 30.0
"""Seconds that the configuration's files, which may lie on a disk that has gone, have to be read."""

_OWN_ERROR = "it could not be read, by an error of the monitor's own, of which the log tells more"


class _OwnError(Exception):
    """Its text is safe to show."""


class Reload(Generic[_Plan]):
    """The configuration that is in effect, and how it becomes another.

    `load` reads it, and raises ConfigError. `plan` says what it would change, and raises TooManyDroppedError unless it
    was `asked_for`; `apply` changes that, and cannot refuse any more. `refused` is told why one was.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        *,
        plan: Callable[[Config, bool], _Plan],
        apply: Callable[[Config, _Plan], Awaitable[None]],
        refused: Callable[[str], None],
        systemd: Systemd,
    ) -> None:
        self.config = config
        self.load = load
        self._plan = plan
        self._apply = apply
        self._refused = refused
        self._systemd = systemd
        self._files = Files(config.sources)
        self._reader = Worker("configuration")
        self.under_way = asyncio.Lock()  # held while what is running becomes what the configuration says

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files that are looked at."""
        return self._files.sources

    async def run(self, *, asked_for: bool) -> None:
        """Read it and take it over. ReloadRefusedError: it was not, and everything is as it was."""
        async with self.under_way:
            with self._systemd.reloading():
                await self._run(asked_for=asked_for)

    async def _run(self, *, asked_for: bool) -> None:
        try:
            await self._aside(self._files.about_to_be_read)
            config = await self._aside(self.load)
            plan = self._plan(config, asked_for)
        except ConfigError as error:
            # Look at what it named, too: that may be what is mended.
            self._files.look_at({*self.config.sources, *error.sources})
            raise self._refusal(error) from error
        except (TooManyDroppedError, TimeoutError) as error:
            raise self._refusal(error) from error
        except Exception as error:  # whatever our own mistake is, the old configuration goes on
            logger.exception("the configuration could not be read; this is an error of the monitor's own")
            # The page shows why. What this error says is for the log alone: it may quote what was read.
            raise self._refusal(_OwnError(f"{_OWN_ERROR} ({type(error).__name__})")) from None
        await self._apply(config, plan)
        self.config = config
        self._files.look_at(config.sources)

    def _refusal(self, error: Exception) -> ReloadRefusedError:
        self._refused(str(error))
        logger.error("configuration refused, the old one goes on", extra={"error": str(error)})
        return ReloadRefusedError(str(error))

    async def watch_files(self) -> None:
        """Reload when the same new content was seen twice in a row: a half-written file never counts. Until cancelled."""
        while True:
            await asyncio.sleep(FILE_CHECK)
            with contextlib.suppress(
                ReloadRefusedError, TimeoutError
            ):  # the one was logged, the other is looked at again
                if await self._aside(self._files.changed):
                    await self.run(asked_for=False)

    def stop(self) -> None:
        """Read no more."""
        self._reader.shutdown(wait=False)

    async def _aside(self, job: Callable[[], _T]) -> _T:
        """Read files where nobody waits for them at the end, and no longer than FILE_PATIENCE. TimeoutError."""
        reading = asyncio.get_running_loop().run_in_executor(self._reader, job)
        reading.add_done_callback(
            lambda late: late.cancelled() or late.exception()
        )  # though nobody waits any more
        done, _ = await asyncio.wait({reading}, timeout=FILE_PATIENCE)
        if not done:
            raise TimeoutError(
                f"the configuration's files cannot be read: no answer within {FILE_PATIENCE:g} s"
            )
        return reading.result()

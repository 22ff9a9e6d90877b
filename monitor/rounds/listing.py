"""One reading of an agent's list of batches, page by page, while the list may be moving.

The order of the list means nothing and pages may shift while they are read: a batch that is created moves
the rest on (and is met twice), one that is deleted moves the rest back (and another may be missed). So a
batch counts once, by its latest entry, and a reading that met signs of a shift is not `quiet`: what it
did not meet may still be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from monitor.model import BatchKey, Urgency
from monitor.poller import Seen
from monitor.ultravox import Client, UltravoxError


@dataclass(slots=True)
class Reading:
    """What was met. `page_of`: on which page each batch was first met, from 0."""

    agent_id: str
    seen: dict[BatchKey, Seen] = field(default_factory=dict)
    page_of: dict[BatchKey, int] = field(default_factory=dict)
    pages: int = 0
    to_the_end: bool = False
    failure: UltravoxError | None = None
    _entries: int = 0
    _totals: set[int | None] = field(default_factory=set)

    @property
    def quiet(self) -> bool:
        """Whether the list was read to its end and nothing shows that it moved meanwhile.

        A deletion and a creation that balance each other out between two pages leave no sign: then a new
        batch may be missed, until the next reading.
        """
        counted = self._totals <= {len(self.seen), None} and len(self._totals) == 1
        return self.to_the_end and counted and self._entries == len(self.seen)

    async def read(
        self,
        client: Client,
        pages: int | None,
        urgency: Urgency,
        on_seen: Callable[[Mapping[BatchKey, Seen]], None],
    ) -> None:
        """Read so many pages, or all (None); `on_seen` hears of each page at once: of the batches that were not met before."""
        try:
            async with aclosing(client.list_batches(self.agent_id, urgency=urgency)) as reading:
                async for page in reading:
                    met = {BatchKey(self.agent_id, batch_id): seen for batch_id, seen in page.batches.items()}
                    new = {key: seen for key, seen in met.items() if key not in self.seen}
                    self.page_of |= dict.fromkeys(new, self.pages)
                    self.seen |= met
                    on_seen(new)
                    self._entries += page.entries
                    self._totals.add(page.total)
                    self.pages += 1
                    self.to_the_end = page.last
                    if pages is not None and self.pages >= pages:
                        break
        except UltravoxError as error:
            self.failure, self.to_the_end = error, False

"""Which batches we watch: those that the configuration names, and those that are found.

Pure: it compares sets and says what follows. Starting and stopping the polling is the shell's.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from monitor.alerts import Policy
from monitor.evaluate import Rules
from monitor.model import BatchKey, Labels, Observation, Target


@dataclass(frozen=True, slots=True)
class Watch:
    """A batch to watch, and how it is judged and spoken of."""

    target: Target
    rules: Rules = field(default_factory=Rules)
    policy: Policy = field(default_factory=Policy)

    @property
    def key(self) -> BatchKey:
        return self.target.key


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the configuration says of all batches of an agent."""

    name: str | None = None
    labels: Labels = ()
    rules: Rules = field(default_factory=Rules)
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Discovery:
    """Which batches of an account are to be found and watched, and how."""

    agents: tuple[str, ...] | None = None  # ids, or patterns of names; None: all
    interval: timedelta = timedelta(minutes=2)
    keep_ended_for: timedelta = timedelta(hours=24)
    max_age: timedelta | None = None  # batches created longer ago are left alone; None: none is too old
    max_batches: int = 10_000  # found ones that are watched at once
    settings: AgentSettings = field(default_factory=AgentSettings)
    by_agent: Mapping[str, AgentSettings] = field(default_factory=dict)

    def wants_agent(self, agent_id: str, name: str) -> bool:
        """Whether this agent's batches are to be found: by its id, or by its name (shell pattern, any case)."""
        by = {
            agent_id.lower(),
            name.lower(),
        }  # a name itself is taken too: it may hold what means more in a pattern
        return self.agents is None or any(
            wanted.lower() in by or fnmatch.fnmatchcase(name.lower(), wanted.lower())
            for wanted in self.agents
        )

    def wants_batch(self, seen: Observation) -> bool:
        """Whether a batch that stands like this is to be watched from now on: not too old, not over for too long."""
        return self.keeps_batch(seen) and (self.max_age is None or seen.at - seen.created <= self.max_age)

    def keeps_batch(self, seen: Observation) -> bool:
        """Whether it is to be watched on: what grows too old while it runs is not left alone in the middle."""
        return seen.ended_at is None or seen.at - seen.ended_at <= self.keep_ended_for

    def watch(self, account: str, key: BatchKey) -> Watch:
        """How a found batch is watched."""
        settings = self.by_agent.get(key.agent_id, self.settings)
        target = Target(account, key, agent_name=settings.name, labels=settings.labels)
        return Watch(target, settings.rules, settings.policy)


@dataclass(frozen=True, slots=True)
class Found:
    """What follows from a reading of an agent's batches."""

    added: tuple[BatchKey, ...]
    dropped: tuple[BatchKey, ...]  # over for too long, or gone after they had ended
    over_limit: int  # batches that would be watched if more were allowed


def found(
    discovery: Discovery,
    listed: Mapping[BatchKey, Observation],
    watched: Iterable[tuple[BatchKey, Observation | None]],
    room: int,
    *,
    met: Container[BatchKey],
    complete: bool,
) -> Found:
    """What a reading of one agent's batches adds and drops.

    `listed`: what was seen of each; `watched`: the agent's found batches that are watched, as last seen;
    `room`: how many more may be watched. `met`: every batch on the list, those that cannot be read included.
    `complete`: the whole list was read; only then does absence mean
    anything, and even then only for batches that had ended: any other is asked for by its id first.
    Where there is no room, those that need watching most come first: not ended, then the newest.
    """
    present = dict(watched)
    dropped = [
        key
        for key, seen in present.items()
        if (key in listed and not discovery.keeps_batch(listed[key]))
        or (complete and key not in met and seen is not None and seen.ended_at is not None)
    ]
    wanted = [key for key, seen in listed.items() if key not in present and discovery.wants_batch(seen)]
    wanted.sort(key=lambda key: (listed[key].ended_at is not None, -listed[key].created.timestamp(), key))
    room = max(0, room + len(dropped))
    return Found(tuple(wanted[:room]), tuple(dropped), len(wanted[room:]))


class TooManyDroppedError(Exception):
    """A changed file alone would drop more than half of the watched batches."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do to get from the batches watched now to those wanted."""

    added: tuple[Watch, ...]
    kept: tuple[Watch, ...]  # with their new settings
    dropped: tuple[BatchKey, ...]


def plan(watched: Iterable[BatchKey], wanted: Mapping[BatchKey, Watch], *, asked_for: bool) -> Plan:
    """The way from `watched` to `wanted`.

    `asked_for`: a person asked for it (SIGHUP, POST /-/reload). Without that, a file that was
    emptied by mistake must not end the watch over a campaign: TooManyDroppedError.
    """
    present = set(watched)
    dropped = sorted(present - wanted.keys())
    if not asked_for and 2 * len(dropped) > len(present):
        raise TooManyDroppedError(
            f"the changed file would drop {len(dropped)} of {len(present)} watched batches; "
            "if that is meant, reload with SIGHUP or POST /-/reload"
        )
    return Plan(
        added=tuple(watch for key, watch in wanted.items() if key not in present),
        kept=tuple(watch for key, watch in wanted.items() if key in present),
        dropped=tuple(dropped),
    )

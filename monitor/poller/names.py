"""The names of agents: told by a list of them, or asked for once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.ultravox import Client, UltravoxError

logger = logging.getLogger(__name__)

NAME_RETRY = timedelta(minutes=10)
"""How long the name of an agent is not asked for again after it could not be had."""


@dataclass(slots=True)
class _Name:
    name: str | None
    ask_again_at: datetime


class AgentNames:
    """What people call each agent, by its id."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._remembered: dict[str, str] = {}

    def remember(self, agent_id: str, name: str) -> None:
        """What it was called before the process ended: people read that until the API has told."""
        self._remembered[agent_id] = name

    def learn(self, agent_id: str, name: str, now: datetime) -> None:
        """Take the name that a list of agents told."""
        self._names[agent_id] = _Name(name, now + NAME_RETRY)
        self._remembered.pop(agent_id, None)

    def get(self, agent_id: str) -> str | None:
        """The name that the API has told, if it has."""
        known = self._names.get(agent_id)
        return known.name if known else None

    def shown(self, agent_id: str) -> str:
        """What people read: the name; until it is known, the one remembered, or the start of the id."""
        return self.get(agent_id) or self._remembered.get(agent_id) or agent_id[:8]

    def lacks(self, agent_id: str, now: datetime) -> bool:
        """Whether the name is not known, and it is time to ask for it."""
        known = self._names.get(agent_id)
        return known is None or not (known.name or now < known.ask_again_at)

    async def ask(self, agent_id: str, client: Client, now: datetime) -> None:
        """Ask for a name that nothing else has told."""
        if not self.lacks(agent_id, now):
            return
        entry = self._names[agent_id] = _Name(None, now + NAME_RETRY)  # nobody else asks meanwhile
        try:
            entry.name = await client.get_agent_name(agent_id)
            self._remembered.pop(agent_id, None)
        except UltravoxError as error:
            logger.info("the agent's name is not known", extra={"agent_id": agent_id, "error": str(error)})

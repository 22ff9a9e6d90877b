"""What is watched for an hour: 2,000 batches at any time, each replaced by the next when it is deleted; and faults.

And the two configurations that take turns. Everything is decided by the seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from monitor import simulator

SPEED = 60.0  # a minute is an hour of the campaigns, which is why their paces are by the hour
AGENTS = {"main": 32, "second": 7, "third": 1}


@dataclass(frozen=True)
class Size:
    """How much there is at any time, and for how many minutes each batch lives, from its creation to its deletion."""

    batches: int
    lives: tuple[float, float]

    @classmethod
    def of(cls, minutes: float) -> Size:
        """What goes well into a run of this length: every batch of the start must be gone before it is judged."""
        return cls(2000, (6.0, 14.0)) if minutes >= 30 else cls(400, (0.8, 1.6))


Document = dict[str, Any]


def scenario(minutes: float, size: Size, seed: int) -> Document:
    """Accounts, agents, batches and faults, as the simulator reads them."""
    chance = random.Random(seed)
    accounts = [
        {
            "name": account,
            "call_duration": "2m",
            "agents": [
                {"name": f"{account}-{number}", "batches": list(_batches(minutes + 2, size, chance))}
                for number in range(agents)
            ],
        }
        for account, agents in AGENTS.items()
    ]
    return {"seed": seed, "speed": SPEED, "accounts": accounts, "faults": list(_faults(minutes + 2))}


def _batches(minutes: float, size: Size, chance: random.Random) -> Iterator[Document]:
    for slot in range(size.batches // sum(AGENTS.values())):
        life = chance.uniform(*size.lives)
        at, number = -chance.uniform(0, life), 0
        while at < minutes:
            yield _batch(f"b{slot}-{number}", at, life, chance.random())
            at, number = at + life, number + 1


def _batch(name: str, at: float, life: float, luck: float) -> Document:
    """One from its creation to its deletion. Most are done in time; the others go wrong in every way there is."""
    calls, window = 20, {"start": _at(at), "end": _at(at + 0.9 * life)}
    batch: Document = {
        "name": name,
        "created": _at(at),
        "calls": calls,
        "pace": f"{calls / (0.8 * life):.3f}/h",
        "window": {"start": _at(at)},
    }

    def script(*steps: tuple[float, str]) -> list[Document]:
        return [{"at": _at(at + share * life), "do": what} for share, what in steps]

    match luck:
        case _ if luck < 0.06:  # stands still, and goes on
            batch["script"] = script((0.2, "stall"), (0.6, "recover"), (1, "delete"))
        case _ if luck < 0.10:  # stands still until its window is over: ends incomplete
            batch |= {"window": window, "script": script((0.3, "stall"), (1, "delete"))}
        case _ if luck < 0.16:
            batch["script"] = script((0.2, "pause"), (0.5, "resume"), (1, "delete"))
        case _ if luck < 0.20:  # vanishes half-way: gone
            batch["script"] = script((0.4, "delete"))
        case _ if luck < 0.24:  # its calls fail
            batch |= {"failing": {"share": 0.5}, "script": script((1, "delete"))}
        case _ if luck < 0.28:  # too slow for its window
            slow = f"{calls / (1.5 * life):.3f}/h"
            batch |= {"pace": slow, "window": window, "script": script((1, "delete"))}
        case _:
            batch["script"] = script((1, "delete"))
    return batch


def _faults(minutes: float) -> Iterator[Document]:
    """Bursts, one account at a time; and a few in a hundred requests go wrong all the time."""
    for minute in range(1, int(minutes)):
        at = {"from": _at(minute), "to": _at(minute + 0.25)}
        match minute % 6:
            case 1:
                yield {"kind": "server_error", "account": "main", "share": 0.5} | at
            case 2:
                yield {"kind": "hang", "account": "second"} | at
            case 3:
                yield {"kind": "unauthorized", "account": "third"} | at
            case 4:
                yield {"kind": "throttled", "account": "second", "share": 0.2, "retry_after": 2} | at
            case 5:
                yield {"kind": "reset", "account": "main", "share": 0.5, "midway": bool(minute % 2)} | at
    yield {"kind": "latency", "share": 0.03, "seconds": 0.7}
    for kind in ("server_error", "reset", "truncated", "html", "wrong_types", "shrink"):
        yield {"kind": kind, "share": 0.004}
    yield {"kind": "hang", "share": 0.001}


def _at(minutes: float) -> str:
    """Of our time, as the scenario's clock tells it."""
    return f"{minutes * 60 * SPEED:.0f}s"


def configuration(
    story: simulator.Scenario, base_url: str, receivers: list[Document], *, state: str, port: int, odd: bool
) -> Document:
    """What the daemon reads. The odd one names other batches, and lacks the third account and a receiver."""
    accounts = []
    for account in story.accounts:
        if odd and account.name == "third":
            continue
        named = [
            {
                "agent_id": str(agent.agent_id),
                "batch_id": str(agent.batches[0].batch_id),
                "name": f"named-{number}",
                "labels": {"team": "odd" if odd else "even"},
            }
            for number, agent in enumerate(account.agents)
        ]
        named = named[5:] if odd else named[:-5]
        accounts.append(
            {
                "name": account.name,
                "api_key": "${KEY_" + account.name.upper() + "}",
                "base_url": base_url,
                "max_requests_per_second": 150 if odd else 160,  # the client is made anew
                "batches": named,
                "discover": {"interval": "20s", "keep_ended_for": "2m"},
            }
        )
    alert = {"repeat_every": "5m"}
    return {
        "accounts": accounts,
        "poll": {"interval": POLL, "timeout": "4s", "outcomes_interval": "5m", "account_interval": "5s"},
        "alerts": {
            "stalled": {"after": "90s", **alert},
            "overdue": {"for": "10s", **alert},
            "paused_too_long": {"for": "30s", **alert},
            "unreachable": {"for": "10s", **alert},
            "window_at_risk": {"for": "30s", "keep_firing_for": "30s", **alert},
            "account_unreachable": {"for": "10s", **alert},
            "account_key_rejected": {"for": "10s", **alert},
        },
        "receivers": receivers[:-1] if odd else receivers,
        "storage": {"path": state},
        "web": {"listen_address": f"127.0.0.1:{port}"},
    }


POLL = "30s"
"""So often that the daemon uses a good third of a core and not more: what is measured is growth, not speed."""

"""Which request goes wrong, in which way, and what a spoilt answer says.

No socket here: what happens to a connection (delay, reset, half a body) is in server.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from monitor.simulator.api import RefusedError
from monitor.simulator.plan import Fault, FaultKind

_WRONG: dict[str, Any] = {
    "totalCount": "400",
    "created": 1763900000,
    "activeCalls": None,
    "name": 7,
    "results": {},
}
"""Wrong types in the places that are easily believed to be right."""

_MISSING = ("completedCount",)
_COUNTS = frozenset({"totalCount", "completedCount", "total"})


class Faults:
    """The faults in force. Where several fit a request, the first one counts, as in a list of rules."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        self._seed = seed
        self._faults = list(faults)
        self._seen = [0] * len(self._faults)

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)
        self._seen.append(0)

    def clear(self) -> None:
        self._faults.clear()
        self._seen.clear()

    def hitting(
        self, endpoint: str, account: str, batch: str | None, now: float, *, named: bool = False
    ) -> Fault | None:
        """The fault of a request at this scenario time, for this account, and batch (by name) if it names one.

        `named`: only a fault that names the batch counts.
        """
        for position, fault in enumerate(self._faults):
            if fault.endpoint not in {"any", endpoint} or fault.account not in {None, account}:
                continue
            if fault.batch not in {None, batch} or (named and fault.batch is None):
                continue
            if now < fault.from_ or (fault.to is not None and now >= fault.to):
                continue
            if self._strikes(position, fault.share):
                return fault
        return None

    def _strikes(self, position: int, share: float) -> bool:
        """Decided by the seed and the number of the request among those that the fault fits, and nothing else."""
        self._seen[position] += 1
        return random.Random(f"{self._seed}/{position}/{self._seen[position]}").random() < share


def refuse(fault: Fault) -> None:
    """RefusedError for the kinds of fault that are an answer with another status."""
    match fault.kind:
        case FaultKind.THROTTLED:
            raise RefusedError(429, "Request was throttled.")
        case FaultKind.SERVER_ERROR:
            raise RefusedError(fault.status, "Server error.")
        case FaultKind.UNAUTHORIZED:
            raise RefusedError(401, "Invalid API key.")
        case FaultKind.FORBIDDEN:
            raise RefusedError(403, "You do not have permission to perform this action.")
        case FaultKind.NOT_FOUND:
            raise RefusedError(404, "Not found.")
        case _:
            pass


def spoilt(fault: Fault, body: Any) -> Any:
    """The answer as this fault makes it: valid JSON all the same. Results of a list are spoilt one by one."""
    match fault.kind:
        case FaultKind.WRONG_TYPES:
            if fault.fields is None and not fault.without:
                return _replaced(body, _WRONG, _MISSING)
            return _replaced(body, fault.fields or {}, fault.without)
        case FaultKind.SHRINK:
            return _shrunk(body)
        case _:
            return body


def _replaced(body: Any, fields: dict[str, Any], without: tuple[str, ...]) -> Any:
    """Only names that the answer has: a fault adds nothing to it."""
    left = {name: fields.get(name, value) for name, value in body.items() if name not in without}
    if isinstance(left.get("results"), list):
        left["results"] = [_replaced(item, fields, without) for item in left["results"]]
    return left


def _shrunk(body: Any) -> Any:
    """Counts at half of what they are."""
    smaller = {name: value // 2 if name in _COUNTS else value for name, value in body.items()}
    if "results" in smaller:
        smaller["results"] = [_shrunk(item) for item in smaller["results"]]
    return smaller

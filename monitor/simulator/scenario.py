"""A scenario file: YAML in, frozen values with their keys and ids out, or every mistake with its path.

Reading and checking only. What can be said is in plan.py, what happens in campaign.py.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monitor.simulator.plan import OPTIONS, Account, Agent, Batch, Fault

_T = TypeVar("_T", bound=BaseModel)
_NAMESPACE = uuid.UUID("6f1c0f5e-0d0e-4f3a-9a53-0c9d3b0b7a11")
_WORDS = {
    "extra_forbidden": "no such key",
    "model_type": "must be a map",
    "dict_type": "must be a map",
    "tuple_type": "must be a list",
}
"""Where pydantic speaks of Python, words that speak of YAML."""


class ScenarioError(Exception):
    """The scenario cannot be played. The text has a line for every mistake, with its path in the file."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seed: Annotated[int, Field(strict=True)] = 0
    speed: Annotated[float, Field(gt=0, strict=True)] = 1.0
    accounts: tuple[Account, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is played. Keys and ids are filled in. `speed`: scenario seconds in a real second."""

    seed: int
    speed: float
    accounts: tuple[Account, ...]
    faults: tuple[Fault, ...]


def default_api_key(account: str) -> str:
    """The key of an account that the scenario gives none: eight characters, a dot, thirty-two."""
    return f"SIMULATE.{uuid.uuid5(_NAMESPACE, account).hex}"


def load(source: Path | str) -> Scenario:
    """Read a scenario from a file, or from text. ScenarioError with every mistake in it; OSError as open()'s."""
    name = str(source) if isinstance(source, Path) else "scenario"
    try:
        data, mistakes = _parsed(source.read_text(encoding="utf-8") if isinstance(source, Path) else source)
    except RecursionError:
        raise ScenarioError(f"{name}: nested too deep") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise ScenarioError(f"{name}: {error}") from None
    try:
        document = _Document.model_validate(data)
    except ValidationError as error:
        mistakes += [f"{_path(found['loc'])}: {_said(found)}" for found in error.errors()]
        raise ScenarioError("\n".join(f"{name}: {mistake}" for mistake in mistakes)) from None
    accounts = tuple(_identified(account) for account in document.accounts)
    mistakes += _mistakes(accounts, document.faults)
    if mistakes:
        raise ScenarioError("\n".join(f"{name}: {mistake}" for mistake in mistakes))
    return Scenario(document.seed, document.speed, accounts, document.faults)


def shipped() -> Scenario:
    """The afternoon that ships with the monitor: every state and every alert."""
    return load(resources.files("monitor.simulator").joinpath("scenario.yaml").read_text(encoding="utf-8"))


def repeated(scenario: Scenario, times: int) -> Scenario:
    """The same so many times, one after another, each time with new batches, and with the faults that have an end."""
    length = _length(scenario)
    later = [number * length for number in range(1, times)]
    accounts = tuple(
        account.model_copy(
            update={
                "agents": tuple(
                    agent.model_copy(
                        update={
                            "batches": agent.batches
                            + tuple(_later(batch, by) for by in later for batch in agent.batches)
                        }
                    )
                    for agent in account.agents
                )
            }
        )
        for account in scenario.accounts
    )
    faults = tuple(
        fault.model_copy(update={"from_": fault.from_ + by, "to": fault.to + by})
        for by in later
        for fault in scenario.faults
        if fault.to is not None
    )
    return replace(scenario, accounts=accounts, faults=scenario.faults + faults)


def _length(scenario: Scenario) -> float:
    """Until its last planned event, in whole hours: a batch without a window may take longer."""
    batches = [batch for account in scenario.accounts for agent in account.agents for batch in agent.batches]
    planned = [action.at for batch in batches for action in batch.script]
    planned += [batch.window.end for batch in batches if batch.window.end is not None]
    planned += [fault.to for fault in scenario.faults if fault.to is not None]
    return 3600.0 * max(1, math.ceil(max(planned, default=0.0) / 3600))


def _later(batch: Batch, by: float) -> Batch:
    def shifted(part: _T, *names: str) -> _T:
        instants = {name: getattr(part, name) for name in names}
        return part.model_copy(update={name: at + by for name, at in instants.items() if at is not None})

    return shifted(batch, "created").model_copy(
        update={
            "batch_id": uuid.uuid5(_NAMESPACE, f"{batch.batch_id} {by:g}"),
            "window": shifted(batch.window, "start", "end"),
            "script": tuple(shifted(action, "at", "start", "end") for action in batch.script),
        }
    )


def _parsed(text: str) -> tuple[Any, list[str]]:
    """The data, and the keys that are there twice, of which YAML silently believes the last."""
    loader = yaml.CSafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        twice = list(_duplicates(node, (), set()))
        return loader.construct_document(node), twice
    finally:
        loader.dispose()


def _duplicates(node: yaml.Node, path: tuple[str | int, ...], seen: set[int]) -> Iterator[str]:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _duplicates(item, (*path, number), seen)
    elif isinstance(node, yaml.MappingNode):
        keys = Counter(str(key.value) for key, _ in node.value)
        yield from (f"{_path((*path, key))}: is there twice" for key, times in keys.items() if times > 1)
        for key, value in node.value:
            yield from _duplicates(value, (*path, str(key.value)), seen)


def _path(steps: Iterable[str | int]) -> str:
    path = ""
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    return path or "the document"


def _said(found: Any) -> str:
    text: str = found["msg"]
    return _WORDS.get(found["type"], text.removeprefix("Value error, "))


def _identified(account: Account) -> Account:
    agents = []
    for agent in account.agents:
        agent_id = agent.agent_id or uuid.uuid5(_NAMESPACE, f"{account.name}/{agent.name}")
        batches = tuple(
            batch.model_copy(update={"batch_id": batch.batch_id or uuid.uuid5(agent_id, batch.name)})
            for batch in agent.batches
        )
        agents.append(agent.model_copy(update={"agent_id": agent_id, "batches": batches}))
    key = account.api_key or default_api_key(account.name)
    return account.model_copy(update={"api_key": key, "agents": tuple(agents)})


def _mistakes(accounts: tuple[Account, ...], faults: tuple[Fault, ...]) -> list[str]:
    """What only the whole can tell: names that are there twice, or not at all."""
    found = [] if accounts else ["accounts: at least one is needed"]
    names = [account.name for account in accounts]
    if twice := _twice(names):  # which makes their keys and ids the same too, and need not be said again
        found += [f"accounts: `{name}` is there twice" for name in twice]
    else:
        found += _same(accounts)
    for number, account in enumerate(accounts):
        found += [f"accounts[{number}]: {mistake}" for mistake in _mistakes_of(account)]
    for number, fault in enumerate(faults):
        found += [f"faults[{number}]{mistake}" for mistake in _mistakes_in(fault, accounts)]
    return found


def _same(accounts: tuple[Account, ...]) -> Iterator[str]:
    if _twice(account.api_key for account in accounts):
        yield "accounts: two accounts have the same api_key"
    agents = [agent for account in accounts for agent in account.agents]
    if _twice(agent.agent_id for agent in agents):
        yield "accounts: two agents have the same name in the same account, or the same agent_id"
    elif _twice(batch.batch_id for agent in agents for batch in agent.batches):
        yield "accounts: two batches have the same name under the same agent, or the same batch_id"


def _mistakes_of(account: Account) -> Iterator[str]:
    throttles = [throttle.name for throttle in account.throttles]
    yield from (f"throttle `{name}` is there twice" for name in _twice(throttles))
    for batch in (batch for agent in account.agents for batch in agent.batches):
        if batch.throttle is not None and batch.throttle not in throttles:
            yield f"batch `{batch.name}`: no throttle is named `{batch.throttle}`"
        yield from (f"batch `{batch.name}`: {mistake}" for mistake in _windows(batch))


def _windows(batch: Batch) -> Iterator[str]:
    start, end = batch.window.start, batch.window.end
    if start is not None and end is not None and end <= start:
        yield "its window ends before it starts"
    for action in sorted(batch.script, key=lambda action: action.at):
        if action.do == "move_window":
            start = action.start if "start" in action.model_fields_set else start
            end = action.end if "end" in action.model_fields_set else end
            if start is not None and end is not None and end <= start:
                yield "its window, once moved, ends before it starts"


def _mistakes_in(fault: Fault, accounts: tuple[Account, ...]) -> Iterator[str]:
    own = [account for account in accounts if fault.account in {None, account.name}]
    if not own:
        yield f".account: no account is named `{fault.account}`"
    agents: list[Agent] = [agent for account in own or accounts for agent in account.agents]
    if fault.batch is not None and all(
        batch.name != fault.batch for agent in agents for batch in agent.batches
    ):
        yield f".batch: no batch is named `{fault.batch}`"
    if fault.to is not None and fault.to <= fault.from_:
        yield ".to: not later than `from`"
    for option in sorted(fault.options - set(OPTIONS.get(fault.kind, ()))):
        yield f".{option}: {fault.kind} takes none"


def _twice(values: Iterable[Any]) -> list[Any]:
    return sorted(value for value, times in Counter(values).items() if times > 1)

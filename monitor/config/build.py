"""From the file's keys to the settings that each component owns. All mistakes are collected, then told at once."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from monitor import delivery, heartbeat, messages, targets, ultravox
from monitor.alerts import KINDS, Policy, Rule, default_rule
from monitor.config import document, schema
from monitor.config.checks import Hide, Secrets, checked
from monitor.config.document import Document, Mistake, Steps
from monitor.config.files import SIZE_LIMIT
from monitor.config.texts import explained
from monitor.evaluate import Rules
from monitor.model import BatchKey, Target
from monitor.routing import Pacing, Route, TimeInterval
from monitor.web import Settings as WebSettings

MOST_MISTAKES = 1000
"""Who has more of them has written something else than a configuration; the first are told."""


class ConfigError(Exception):
    """The configuration cannot be used. A line for every mistake: file, line, column, path, what to do."""

    def __init__(self, source: Path, mistakes: tuple[Mistake, ...], sources: tuple[Path, ...] = ()) -> None:
        self.mistakes = mistakes[:MOST_MISTAKES]
        self.sources = (source, *sources)  # every file it named: one of them may be what is mended
        lines = [_line(source, mistake) for mistake in self.mistakes]
        if len(mistakes) > MOST_MISTAKES:
            last = self.mistakes[-1]
            lines.append(
                _line(source, Mistake(last.line, last.column, "", "and more mistakes after this one"))
            )
        super().__init__("\n".join(lines))


_ENVIRONMENT = Path("(environment)")


def _line(source: Path, mistake: Mistake) -> str:
    if source is _ENVIRONMENT:
        variable = "ULTRAVOX_BASE_URL" if mistake.path.endswith("base_url") else "ULTRAVOX_API_KEY"
        return f"{variable}: {mistake.text}"
    where = f"{source}:{mistake.line}:{mistake.column}: "
    return where + (f"{mistake.path}: {mistake.text}" if mistake.path else mistake.text)


@dataclass(frozen=True, slots=True)
class Account:
    """One account: how it is asked, how it is spoken of, what is watched."""

    name: str
    api: ultravox.ApiSettings
    policy: Policy
    watches: tuple[targets.Watch, ...]
    discovery: targets.Discovery | None  # None: the batches named above, and no other


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration, without a mistake."""

    accounts: tuple[Account, ...]
    interval: timedelta  # between two polls of a running batch
    account_interval: timedelta  # between two probes of an account
    outcomes_interval: timedelta  # between two readings of a running batch's outcomes
    receivers: Mapping[str, delivery.Settings]  # each with a queue of its own: of Apprise, one for every URL
    heartbeat: heartbeat.Settings | None
    links: messages.Links
    storage_path: Path | None
    web: WebSettings
    secrets: tuple[SecretStr, ...]  # everything that must not be shown
    sources: tuple[Path, ...]  # every file that was read: what a reload looks at


def _show(_: Iterable[str]) -> None:
    """For those who show nothing."""


def load(
    path: Path, environ: Mapping[str, str], *, listen_address: str | None = None, hide: Hide = _show
) -> Config:
    """Read a configuration, and the files with secrets it names. ConfigError with all mistakes.

    `listen_address` (the command line's) wins over the file's. `hide` is told of each secret as it is read.
    """
    try:
        with path.open("rb") as opened:
            content = opened.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(path, (Mistake(1, 1, "", f"cannot be read: {error.strerror}"),)) from None
    if len(content) > SIZE_LIMIT:
        raise ConfigError(path, (Mistake(1, 1, "", "larger than 4 MiB"),))
    return _read(path, path.parent, content, environ, listen_address, hide, sources=(path,))


def _read(
    path: Path,
    folder: Path,
    content: bytes,
    environ: Mapping[str, str],
    listen_address: str | None,
    hide: Hide,
    *,
    sources: tuple[Path, ...],
) -> Config:
    found = document.parse(content, environ)
    if listen_address is not None and isinstance(found.data, dict):
        web = found.data.setdefault("web", {})
        if isinstance(web, dict):
            web["listen_address"] = listen_address
    file = _validated(found)
    secrets = Secrets(found, folder, hide)
    keys, channels, beat_url = checked(found, secrets)
    if file is None or found.mistakes:
        raise ConfigError(path, tuple(sorted(set(found.mistakes))), tuple(secrets.sources))
    host, port = file.web.listen_address
    return Config(
        accounts=tuple(
            _account(file, account, key)
            for account, key in zip(file.accounts, keys, strict=True)
            if key is not None
        ),
        interval=file.poll.interval,
        account_interval=file.poll.account_interval,
        outcomes_interval=file.poll.outcomes_interval,
        receivers={
            name: delivery.Settings(channel, _route(receiver), _pacing(receiver))
            for receiver, named in zip(file.receivers, channels, strict=True)
            for name, channel in named.items()
        },
        heartbeat=(
            None
            if file.heartbeat is None or beat_url is None
            else heartbeat.Settings(beat_url, file.heartbeat.every, file.heartbeat.timeout)
        ),
        links=messages.Links(file.links.dashboard_url, file.links.runbook_url),
        storage_path=None if file.storage.path is None else folder / file.storage.path,
        web=WebSettings(host, port, file.web.external_url),
        secrets=tuple(secrets.found),
        sources=(*sources, *secrets.sources),
    )


def load_default(
    environ: Mapping[str, str], *, listen_address: str | None = None, hide: Hide = _show
) -> Config:
    """What is watched without a configuration file: every batch of the account of ULTRAVOX_API_KEY.

    ULTRAVOX_BASE_URL names another Ultravox, the simulator for one. ConfigError when they cannot be used.
    """
    base_url = ", base_url: '${ULTRAVOX_BASE_URL}'" if environ.get("ULTRAVOX_BASE_URL") else ""
    content = f"accounts: [{{name: default, api_key: '${{ULTRAVOX_API_KEY}}'{base_url}}}]"
    return _read(_ENVIRONMENT, Path(), content.encode(), environ, listen_address, hide, sources=())


def _validated(found: Document) -> schema.File | None:
    """The data as the schema's; what does not fit goes to the mistakes."""
    if found.data is None and found.mistakes:
        return None
    if not isinstance(found.data, dict):
        found.mistake((), "must be a map of `key: value`")
        return None
    # `poll:` with everything below it commented out means the defaults.
    given = {key: value for key, value in found.data.items() if value is not None}
    try:
        return schema.File.model_validate(given)
    except ValidationError as error:
        for one in error.errors(include_url=False)[: MOST_MISTAKES + 1]:
            path: Steps = tuple(one["loc"])
            at_key = path[-1:] == ("[key]",)
            path = path[:-1] if at_key else path
            text = explained(one)
            if one["type"] == "extra_forbidden":
                text, at_key = _unknown(path), True
            found.mistake(path, text, at_key=at_key)
        return None


def _unknown(path: Steps) -> str:
    name = str(path[-1])
    known = [field.alias or key for key, field in _model_at(path[:-1]).model_fields.items()]
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"unknown key; did you mean `{near[0]}`?"
    return f"unknown key; here belong: {', '.join(sorted(known))}"


def _model_at(path: Steps) -> type[BaseModel]:
    """The schema's model at a path of the file."""
    model: type[BaseModel] = schema.File
    for step in path:
        if isinstance(step, str):
            found = next(f for key, f in model.model_fields.items() if (f.alias or key) == step)
            model = _model_in(found.annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in typing.get_args(annotation) if (model := _model_in(part))), None)


# From blocks to settings


def _account(file: schema.File, account: schema.Account, key: SecretStr) -> Account:
    layers: list[schema.BatchAlerts] = [file.alerts, account.alerts]
    agents = {
        agent.agent_id: targets.AgentSettings(
            agent.name,
            messages.sorted_labels(dict(agent.labels)),
            _rules(file.poll, [*layers, agent.alerts]),
            _policy([*layers, agent.alerts]),
        )
        for agent in account.agents
    }
    of_agents = {agent.agent_id: agent.alerts for agent in account.agents}
    watches = []
    for batch in account.batches:
        agent = agents.get(batch.agent_id)
        own = [*layers, *([of_agents[batch.agent_id]] if agent else []), batch.alerts]
        labels = (dict(agent.labels) if agent else {}) | batch.labels
        watches.append(
            targets.Watch(
                Target(
                    account=account.name,
                    key=BatchKey(batch.agent_id, batch.batch_id),
                    name=batch.name,
                    agent_name=agent.name if agent else None,
                    labels=messages.sorted_labels(labels),
                ),
                _rules(file.poll, own),
                _policy(own),
            )
        )
    api = ultravox.ApiSettings(
        account.name, key, account.base_url, file.poll.timeout, account.max_requests_per_second
    )
    settings = targets.AgentSettings(rules=_rules(file.poll, layers), policy=_policy(layers))
    discovery = _discovery(account, settings, agents)
    return Account(account.name, api, _policy(layers), tuple(watches), discovery)


def _discovery(
    account: schema.Account, settings: targets.AgentSettings, agents: dict[str, targets.AgentSettings]
) -> targets.Discovery | None:
    """What is to be found. An account that names no batch and says nothing else is watched whole."""
    if account.discover is None and (account.batches or "discover" in account.model_fields_set):
        return None
    block = account.discover or schema.Discover()
    return targets.Discovery(
        block.agents,
        block.interval,
        block.keep_ended_for,
        block.max_age,
        block.max_batches,
        settings,
        agents,
    )


def _rules(poll: schema.Poll, layers: list[schema.BatchAlerts]) -> Rules:
    rules = Rules(interval=poll.interval)
    for layer in layers:
        stalled = layer.stalled
        if stalled is not None and stalled.after is not None:
            rules = replace(rules, stall_after=stalled.after)
        if stalled is not None and stalled.after_at_cap is not None:
            rules = replace(rules, stall_after_at_cap=stalled.after_at_cap)
    return rules


def _policy(layers: list[schema.BatchAlerts]) -> Policy:
    """The nearest block wins, key by key; a kind that is not enabled has no rule."""
    rules = {}
    for name, kind in KINDS.items():
        rule, enabled = default_rule(name), True
        for layer in layers:
            block = getattr(layer, kind.key, None)
            if block is not None:
                rule = _overridden(rule, block)
                enabled = enabled if block.enabled is None else block.enabled
        if enabled:
            rules[name] = rule
    policy = Policy(rules)
    for layer in layers:
        ended, failing = layer.ended_incomplete, layer.failure_rate_high
        if ended is not None and ended.unmade_over is not None:
            unmade = ended.unmade_over
            policy = replace(policy, unmade_over_count=unmade.count, unmade_over_ratio=unmade.ratio)
        if ended is not None and ended.failed_ratio is not None:
            policy = replace(policy, failed_ratio=ended.failed_ratio)
        if failing is not None and failing.ratio is not None:
            policy = replace(policy, failure_ratio=failing.ratio)
        if failing is not None and failing.min_calls is not None:
            policy = replace(policy, failure_min_calls=failing.min_calls)
    return policy


def _overridden(rule: Rule, block: schema.OneShotAlert) -> Rule:
    if block.severity is not None:
        rule = replace(rule, severity=block.severity)
    if isinstance(block, schema.Alert):
        if block.for_ is not None:
            rule = replace(rule, hold=block.for_)
        if block.keep_firing_for is not None:
            rule = replace(rule, keep_firing_for=block.keep_firing_for)
        if "repeat_every" in block.model_fields_set:  # null is a value: never
            rule = replace(rule, repeat_every=block.repeat_every)
    return rule


def _route(receiver: schema.Receiver) -> Route:
    intervals = tuple(
        TimeInterval(
            tuple((one.start_time, one.end_time) for one in interval.times or ()),
            frozenset().union(*interval.weekdays or ()),
            interval.location,
        )
        for interval in receiver.mute_time_intervals
    )
    only = None if receiver.only is None else frozenset(receiver.only)
    return Route(only, receiver.severity_at_least, tuple(receiver.match.items()), intervals)


def _pacing(receiver: schema.Receiver) -> Pacing:
    return Pacing(receiver.group_wait, receiver.give_up_after, receiver.max_messages_per_minute)

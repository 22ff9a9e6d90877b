"""From the file's keys to the settings that each component owns. All mistakes are collected, then told at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypedDict, Unpack

from pydantic import SecretStr

from monitor import delivery, heartbeat, messages, targets, ultravox
from monitor.alerts import KINDS, Policy, Rule, default_rule
from monitor.config import document, schema, web_file
from monitor.config.checks import Hide, Secrets, checked
from monitor.config.document import Document, Mistake
from monitor.config.files import SIZE_LIMIT
from monitor.config.fitting import MOST_MISTAKES, fitted
from monitor.config.web_file import WebFile
from monitor.evaluate import Rules
from monitor.model import BatchKey, Target
from monitor.routing import Pacing, Route, TimeInterval
from monitor.web import Access
from monitor.web import Settings as WebSettings

_NO_FILE = "there is no such file: copy config.example.yaml to it, or run without --config.file, on the key in ULTRAVOX_API_KEY alone"


class ConfigError(Exception):
    """The configuration cannot be used. A line for every mistake: file, line, column, path, what to do."""

    def __init__(
        self,
        source: Path,
        mistakes: tuple[Mistake, ...],
        sources: tuple[Path, ...] = (),
        web: WebFile | None = None,
    ) -> None:
        told = [(source, one) for one in mistakes]
        told += [(web.path, one) for one in web.mistakes] if web else []
        # Every file it named: one of them may be what is mended.
        self.sources = (
            *(() if source is _ENVIRONMENT else (source,)),
            *sources,
            *(web.sources if web else ()),
        )
        self.mistakes = tuple(one for _, one in told[:MOST_MISTAKES])
        lines = [_line(where, mistake) for where, mistake in told[:MOST_MISTAKES]]
        if len(told) > MOST_MISTAKES:
            where, last = told[MOST_MISTAKES - 1]
            lines.append(
                _line(where, Mistake(last.line, last.column, "", "and more mistakes after this one"))
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
    access: Access  # who may ask, over what
    secrets: tuple[SecretStr, ...]  # everything that must not be shown
    sources: tuple[Path, ...]  # every file that was read: what a reload looks at


class Flags(TypedDict, total=False):
    """What the command line says. It wins over the file."""

    listen_address: str | None
    web_config_file: Path | None  # relative to where the command was given
    read_only: bool
    hide: Hide  # is told of each secret as it is read


def load(path: Path, environ: Mapping[str, str], **flags: Unpack[Flags]) -> Config:
    """Read a configuration, and the files that it names. ConfigError with all mistakes."""
    try:
        with path.open("rb") as opened:
            content = opened.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigError(path, (Mistake(1, 1, "", _NO_FILE),)) from None
    except OSError as error:
        raise ConfigError(path, (Mistake(1, 1, "", f"cannot be read: {error.strerror}"),)) from None
    if len(content) > SIZE_LIMIT:
        raise ConfigError(path, (Mistake(1, 1, "", "larger than 4 MiB"),))
    return _read(path, path.parent, content, environ, flags, sources=(path,))


def _read(
    path: Path,
    folder: Path,
    content: bytes,
    environ: Mapping[str, str],
    flags: Flags,
    *,
    sources: tuple[Path, ...],
) -> Config:
    found = document.parse(content, environ)
    listen_address = flags.get("listen_address")
    if listen_address is not None and isinstance(found.data, dict):
        web = found.data.setdefault("web", {})
        if isinstance(web, dict):
            web["listen_address"] = listen_address
    file = fitted(schema.File, found)
    secrets = Secrets(found, folder, flags.get("hide", _show))
    keys, channels, beat_url = checked(found, secrets)
    web = _web_file(found, folder, flags.get("web_config_file"))
    secrets.hide(secret.get_secret_value() for secret in (web.secrets if web else ()))
    if file is None or found.mistakes or (web is not None and web.mistakes):
        raise ConfigError(path, tuple(sorted(set(found.mistakes))), tuple(secrets.sources), web)
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
        web=WebSettings(host, port, file.web.external_url, flags.get("read_only", False)),
        access=Access() if web is None else web.access,
        secrets=(*secrets.found, *(web.secrets if web else ())),
        sources=(*sources, *secrets.sources, *(web.sources if web else ())),
    )


def _show(_: Iterable[str]) -> None:
    """For those who show nothing."""


def load_default(environ: Mapping[str, str], **flags: Unpack[Flags]) -> Config:
    """What is watched without a configuration file: every batch of the account of ULTRAVOX_API_KEY.

    ULTRAVOX_BASE_URL names another Ultravox, the simulator for one. ConfigError when they cannot be used.
    """
    base_url = ", base_url: '${ULTRAVOX_BASE_URL}'" if environ.get("ULTRAVOX_BASE_URL") else ""
    content = f"accounts: [{{name: default, api_key: '${{ULTRAVOX_API_KEY}}'{base_url}}}]"
    return _read(_ENVIRONMENT, Path(), content.encode(), environ, flags, sources=())


def _web_file(found: Document, folder: Path, named: Path | None) -> WebFile | None:
    """The web configuration that the command line or the file names."""
    if named is None and isinstance(found.data, dict) and isinstance(found.data.get("web"), dict):
        name = found.data["web"].get("config_file")
        if name is None and "config_file" in found.data["web"]:  # must not open the door without a word
            found.mistake(("web", "config_file"), "is empty: name a file, or leave the key out", at_key=True)
        named = folder / name if isinstance(name, str) and name and name.isprintable() else None
    return None if named is None else web_file.read(named)


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
    settings = targets.AgentSettings(rules=_rules(file.poll, layers), policy=_policy(layers))
    of_agents = {agent.agent_id: agent.alerts for agent in account.agents}
    watches = []
    for batch in account.batches:
        agent = agents.get(batch.agent_id)
        rules, policy = (
            (agent or settings).rules,
            (agent or settings).policy,
        )  # one for all: there may be thousands
        if batch.alerts.model_fields_set:
            own = [*layers, *([of_agents[batch.agent_id]] if agent else []), batch.alerts]
            rules, policy = _rules(file.poll, own), _policy(own)
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
                rules,
                policy,
            )
        )
    api = ultravox.ApiSettings(
        account.name, key, account.base_url, file.poll.timeout, account.max_requests_per_second
    )
    discovery = _discovery(account, settings, agents)
    return Account(account.name, api, settings.policy, tuple(watches), discovery)


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

"""The command line: what can be asked for, what it answers, and with which exit code.

Commands import what they need when they run, so that `--version` and short questions stay quick.
Exit codes: 0 done, 1 it could not be done (the text on stderr says why), 2 asked wrongly; `status` has others.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import click

from monitor import __version__
from monitor.cli.sharding import sharding_of, sharding_options
from monitor.cli.shared import Commands, fail

_CONFIG_FILE = click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration, YAML. config.example.yaml explains every key.",
)
_LOG_LEVEL = click.option(
    "--log.level",
    "log_level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
_LOG_FORMAT = click.option(
    "--log.format", "log_format", type=click.Choice(["logfmt", "json"]), default="logfmt", show_default=True
)


_WEB_CONFIG_FILE = click.option(
    "--web.config.file",
    "web_config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TLS and passwords, in the format of Prometheus' exporters. Overrides web.config_file of the configuration.",
)


_ELSEWHERE = {
    "asking": ("explain", "mute", "unmute", "test-alert", "healthcheck"),
    "looking": ("status", "watch"),
    "completing": ("completion",),
}


@click.group(
    cls=Commands,
    elsewhere={name: f"monitor.cli.{module}" for module, names in _ELSEWHERE.items() for name in names},
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="batch-monitor")
@click.pass_context
def cli(context: click.Context) -> None:
    """Watches outbound call batches on Ultravox and speaks up before people are left uncalled.

    \b
    Example: batch-monitor demo
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """The entry point of the command."""
    cli(prog_name="batch-monitor")


@cli.command()
@_CONFIG_FILE
@click.option(
    "--web.listen-address",
    "listen_address",
    metavar="[HOST]:PORT",
    help="Overrides web.listen_address of the configuration.",
)
@_WEB_CONFIG_FILE
@click.option(
    "--web.read-only", "read_only", is_flag=True, help="Take no mute, no test alert and no reload over HTTP."
)
@sharding_options
@_LOG_LEVEL
@_LOG_FORMAT
def run(
    config_file: Path | None,
    listen_address: str | None,
    web_config_file: Path | None,
    shard: str | None,
    shard_peers: str | None,
    shard_http_config_file: Path | None,
    log_level: str,
    log_format: str,
    *,
    read_only: bool,
) -> None:
    """Run the daemon.

    Without a configuration file it finds and watches every batch of the account whose key is in the
    environment variable ULTRAVOX_API_KEY, with the defaults, and keeps its state in ./monitor.db.

    \b
    Example: batch-monitor run --config.file config.yaml
    """
    if config_file is None and not os.environ.get("ULTRAVOX_API_KEY", "").strip():
        fail(
            "No API key and no configuration. To watch every batch of your account:\n"
            "  ULTRAVOX_API_KEY=… batch-monitor run\n"
            "To choose, to be alerted and to name things, copy config.example.yaml, edit it, and run\n"
            "  batch-monitor run --config.file config.yaml\n"
            "Or look at it first, without a key or an account:\n"
            "  batch-monitor demo"
        )
    import asyncio
    import gc

    from monitor import clock, config, log
    from monitor.app import App
    from monitor.handover import ShardError
    from monitor.store import StoreError

    split = sharding_of(shard, shard_peers, shard_http_config_file)
    formatter = log.set_up(log_level, log_format)
    read = (
        partial(config.load, config_file, os.environ)
        if config_file
        else partial(config.load_default, os.environ)
    )

    load = partial(
        read,
        listen_address=listen_address,
        web_config_file=web_config_file,
        read_only=read_only,
        hide=formatter.hide,
    )

    async def collect_again(started: asyncio.Event) -> None:
        await started.wait()
        gc.enable()

    async def daemon() -> None:
        app = App(load(), load=load, clock=clock.utc_now, sharding=split)
        # Ten thousand batches come up, none of them garbage: to look for it again and again would take long.
        gc.disable()
        collecting = asyncio.create_task(collect_again(app.started))
        await app.run()
        collecting.cancel()

    try:
        asyncio.run(daemon())
    except (config.ConfigError, ShardError, StoreError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot listen: {error.strerror or error}; choose another address with --web.listen-address")


@cli.command("check-config", short_help="Check a configuration file: every mistake at once.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_WEB_CONFIG_FILE
def check_config(file: Path, web_config_file: Path | None) -> None:
    """Check a configuration file: every mistake at once, with line, column and path in the file.

    \b
    Example: batch-monitor check-config config.yaml
    """
    from monitor import config

    try:
        found = config.load(file, os.environ, web_config_file=web_config_file)
    except config.ConfigError as error:
        fail(str(error))
    batches = sum(len(account.watches) for account in found.accounts)
    finding = sum(account.discovery is not None for account in found.accounts)
    more = f" and all that are found in {_count(finding, 'account')}" if finding else ""
    click.echo(
        f"{file}: no mistakes: {_count(len(found.accounts), 'account')}, {_count(batches, 'batch', 'batches')}{more}, "
        f"{_count(len(found.receivers), 'receiver')}"
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


@cli.command(short_help="List the calls not made or failed: whom to call again.")
@click.argument("batch_id")
@_CONFIG_FILE
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, a column for each key of the metadata.")
def uncalled(batch_id: str, config_file: Path | None, *, as_csv: bool) -> None:
    """List the calls of a batch that were not made or failed: whom to call again.

    They are read from Ultravox with the keys of the configuration, or with the one in ULTRAVOX_API_KEY, and
    stored nowhere. What is FUTURE may still be made, as long as the batch has not ended.

    \b
    Example: batch-monitor uncalled 3c90c3cc-0d44-4b50-8888-8dd25736052a --csv > again.csv
    """
    import asyncio

    from rich.console import Console

    from monitor import clock, config
    from monitor import uncalled as listing
    from monitor.ultravox import UltravoxError

    if config_file is None and not os.environ.get("ULTRAVOX_API_KEY", "").strip():
        fail("No API key: set ULTRAVOX_API_KEY, or name the configuration with --config.file")
    try:
        settings = config.load(config_file, os.environ) if config_file else config.load_default(os.environ)
        calls = asyncio.run(listing.read(settings, batch_id, clock=clock.utc_now))
    except (config.ConfigError, UltravoxError, listing.NotFoundError) as error:
        fail(str(error))
    if as_csv:
        listing.write_csv(calls, sys.stdout)
    elif calls:
        listing.print_table(calls, Console())
    click.echo(f"{_count(len(calls), 'call')} not made or failed", err=True)


@cli.command(short_help="Run a pretend Ultravox, with made-up campaigns.")
@click.option(
    "--scenario",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="What happens, YAML (docs/simulator.md). Default: the afternoon that ships with the monitor.",
)
@click.option(
    "--speed", type=click.FloatRange(0.001, 10_000), help="How many times faster than the scenario says."
)
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Play the scenario so often, one after another, each time with new batches.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=10043, show_default=True, help="0: any free one."
)
@_LOG_LEVEL
@_LOG_FORMAT
def simulate(
    scenario: Path | None,
    speed: float | None,
    repeat: int,
    host: str,
    port: int,
    log_level: str,
    log_format: str,
) -> None:
    """Run a pretend Ultravox: the API that the monitor reads, with campaigns made up by a scenario.

    \b
    Example: batch-monitor simulate --speed 60
    """
    import asyncio

    from monitor import clock, log, simulator

    log.set_up(log_level, log_format)

    def ready(base_url: str) -> None:
        click.echo(f"pretend Ultravox at {base_url}")
        for account in story.accounts:
            click.echo(f"  account {account.name}: X-API-Key {account.api_key}")

    try:
        once = simulator.load(scenario) if scenario else simulator.shipped()
        story = simulator.repeated(once, repeat)
        asyncio.run(
            simulator.serve(story, speed=speed, host=host, port=port, clock=clock.utc_now, on_ready=ready)
        )
    except simulator.ScenarioError as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port")
    except KeyboardInterrupt:
        pass


@cli.command(short_help="Show it: no key, no account, no configuration.")
@click.option(
    "--speed",
    type=click.FloatRange(1, 1000),
    default=120,
    show_default=True,
    help="How many times faster than life: at 120 an afternoon passes in two minutes.",
)
@click.option("--for", "seconds", type=click.FloatRange(min=1), help="Stop after so many seconds.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=10042, show_default=True, help="0: any free one."
)
def demo(speed: float, seconds: float | None, port: int) -> None:
    """Show it: a pretend Ultravox, the daemon watching it, and what the daemon sees, live.

    No key, no account, no configuration. Ctrl-C ends it.

    \b
    Example: batch-monitor demo --speed 60
    """
    import asyncio

    from monitor import demo as show

    try:
        asyncio.run(show.run(speed=speed, seconds=seconds, port=port))
    except OSError as error:
        fail(f"cannot listen on port {port}: {error.strerror or error}; choose another with --port")
    except KeyboardInterrupt:
        pass

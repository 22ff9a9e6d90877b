"""What the daemon sends out of the house, as a program of its own, so that the environment counts as it does there.

Reads JSON `{"api": [...], "webhook": [...], "alertmanager": [...], "heartbeat": [...], "apprise": [...]}`, addresses each, from
standard input, and prints for each what came of it: "taken", or the error.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

import aiohttp
from pydantic import SecretStr
from receivers import message, notification
from samples import NOW

from monitor import heartbeat
from monitor.clock import utc_now
from monitor.metrics import Instruments
from monitor.notify import FAILURES, alertmanager, apprise, webhook
from monitor.notify.channel import SendError, Wire
from monitor.ultravox import ApiSettings, Client, UltravoxError

PATIENCE = timedelta(seconds=20)
TAKEN = "taken"


async def api(address: str) -> str:
    key = SecretStr("Zk3hQ9aB.0123456789abcdef0123456789abcdef")
    client = Client(ApiSettings("main", key, address, PATIENCE), clock=utc_now)
    try:
        await client.get_account()
    except UltravoxError as error:
        return str(error)
    finally:
        await client.close()
    return TAKEN


async def sent(address: str, kind: str) -> str:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        wire, url = Wire(session, "crm", NOW), SecretStr(address)
        try:
            if kind == "alertmanager":
                told = await alertmanager.Settings((url,), PATIENCE).tell(
                    wire, [notification()], all_of_it=True
                )
                return TAKEN if told.accepted else str(told.down)
            channel = apprise.Settings(url, PATIENCE) if kind == "apprise" else webhook.Settings(url)
            await channel.send(wire, message(notification()))
        except SendError as error:
            return str(error)
    return TAKEN


async def beat(address: str) -> str:
    instruments = Instruments(endpoints=(), send_failures=FAILURES, now=NOW)
    pinging = heartbeat.Heartbeat(lambda: None, clock=lambda: NOW, instruments=instruments)
    series = instruments.add_heartbeat()
    if await pinging._ping(heartbeat.Settings(SecretStr(address), timeout=PATIENCE), series):
        return TAKEN
    return next(
        reason
        for reason in FAILURES
        if instruments.registry.get_sample_value(
            "ultravox_monitor_heartbeat_failures_total", {"reason": reason}
        )
    )


async def main() -> None:
    found: dict[str, dict[str, str]] = {}
    for kind, addresses in json.load(sys.stdin).items():
        for address in addresses:
            asked = {"api": api, "heartbeat": beat}.get(kind)
            came = await (asked(address) if asked else sent(address, kind))
            found.setdefault(kind, {})[address] = came
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())

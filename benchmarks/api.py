"""An API that costs next to nothing: raw asyncio, one canned answer. So it is the client that is measured.

Run as `python -m benchmarks.api`; prints its port and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate

AGENT = "7f6a0000-0000-4000-8000-000000000001"


def batch_id(number: int) -> str:
    """The id of one of as many batches as one likes."""
    return f"3c900000-0000-4000-8000-{number:012d}"


class _Answers(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        asked = data.split(b" ", 2)[1].rsplit(b"/", 1)[-1].decode()
        body = json.dumps(
            {
                "batchId": asked,
                "created": "2026-11-23T09:00:00Z",
                "totalCount": 400,
                "completedCount": 118,
                "endedAt": None,
                "windowStart": None,
                "windowEnd": "2099-11-23T17:00:00Z",
                "paused": False,
                "throttle": None,
                "webhookUrl": "https://customer.example/hooks/ultravox",
                "webhookSecret": "whsec-0123456789abcdef",
            }
        ).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: {formatdate(usegmt=True)}\r\nContent-Length: {len(body)}\r\n\r\n"
        assert isinstance(self._transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport.write(head.encode() + body)


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(_Answers, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

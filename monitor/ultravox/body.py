"""How much of an answer is let in."""

from __future__ import annotations

import asyncio

import aiohttp

from monitor.ultravox.payload import MalformedError

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of an answer, unpacked, that are read at most."""

LARGE = 256 * 1024
"""Bytes above which answers are read one at a time, all accounts together, so that an API which has lost its mind
costs the memory of one absurd answer and not of as many as are asked. A page of 100 batches has some 60,000."""


async def read(response: aiohttp.ClientResponse, large: asyncio.Lock) -> bytes | bytearray:
    """The body, if it is not absurdly long: MalformedError. What it unpacks to counts, so that a small bomb is none.

    Who has more than LARGE waits for `large`, and in effect has it until he has read the body as JSON as well,
    if he awaits nothing in between.
    """
    length = response.content_length
    if length is not None and length > BODY_LIMIT:
        raise _too_long()
    if length is not None and length <= LARGE and "Content-Encoding" not in response.headers:
        return await response.read()  # it has no more than it says
    body, parts = bytearray(), response.content.iter_any()
    async for part in parts:
        body += part
        if len(body) > LARGE:
            break
    else:
        return body
    async with large:
        async for part in parts:
            body += part
            if len(body) > BODY_LIMIT:
                raise _too_long()
    return body


def _too_long() -> MalformedError:
    return MalformedError(f"more than {BODY_LIMIT // 1024 // 1024} MiB")

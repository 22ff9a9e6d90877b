"""Tells when aioresponses works with the aiohttp we need: then the shim in conftest.py can go."""

from __future__ import annotations

import aiohttp
import aioresponses
import pytest


@pytest.mark.xfail(
    strict=True, raises=TypeError, reason="aioresponses 0.7.9 on aiohttp 3.14: drop the shim when this passes"
)
async def test_aioresponses_works_without_our_shim():
    with aioresponses.aioresponses() as mocked:
        mocked.get("https://api.example/", status=204)
        async with aiohttp.ClientSession() as session, session.get("https://api.example/") as response:
            assert response.status == 204

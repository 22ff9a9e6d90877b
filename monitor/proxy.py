"""Which proxy a request goes through, by the environment: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or in small letters.

aiohttp could read them itself, and would then also take passwords out of ~/.netrc, for whoever is asked.
What is sent, and to whom, comes from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(url: str) -> str | None:
    """The proxy's URL, with the user and password in it; None: there is none."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address: whoever asks it will tell
        return None
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return _url(proxy)


def secrets() -> Iterator[str]:
    """Addresses of proxies that hold a password."""
    for name, proxy in getproxies().items():
        if name != "no" and "@" in proxy:
            yield _url(proxy)


def _url(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"  # as curl takes it

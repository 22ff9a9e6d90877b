"""The planted secrets, and the search for them: raw, URL-encoded, in base64, in hexadecimal. It knows nothing of monitor/.

Each is one line here, and stands in the world by its name.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote

CONFIGURED = {
    "api_key": "pL4nTeD0.apikey00111122223333444455556666",
    "rotated_key": "pL4nTeD1.rotated0777788889999000011112222",
    "webhook_token": "planted-webhook-token-02",
    "webhook_user": "planted-webhook-user-03",
    "webhook_password": "planted/webhook+pass:wörd04",
    "webhook_query": "planted-webhook-query-05",
    "webhook_hmac": 'planted"hmac\\secret=06',
    "alertmanager_password": "planted-alertmanager-07",
    "apprise_password": "planted-apprise-pass-08",
    "apprise_token": "planted-apprise-token-09",
    "heartbeat_token": "planted-heartbeat-10",
    "proxy_password": "planted-proxy-pass-11",
}
"""What the configuration and the environment hold."""

TOLD = {
    "webhook_secret": "planted-whsec-21",
    "webhooks_secrets": "planted-webhook-secrets-22",
    "webhook_url": "planted-webhook-url-23",
    "phone": "49155501002424",
    "metadata": "planted-metadata-25",
    "template_context": "planted-context-26",
    "system_prompt": "planted-prompt-27",
    "echoed_error": "planted-error-28",
}
"""What the API's answers hold, whether they are good or not."""

ECHOED = {"echo": "planted-echo-31"}
"""What receivers' answers hold, besides what they were sent."""

ALL = CONFIGURED | TOLD | ECHOED


def forms(secret: str) -> set[bytes]:
    """How it may stand in an output."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), json.dumps(secret)[1:-1].encode(), repr(raw)[2:-1].encode()}
    found |= {json.dumps(secret, ensure_ascii=False)[1:-1].encode(), repr(secret)[1:-1].encode()}
    for safe in ("", "/", "/:+@="):
        found |= {quote(secret, safe=safe).encode(), quote(secret, safe=safe).lower().encode()}
    for before in range(3):  # wherever it begins in what was encoded, the middle of it is the same
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(bytes(before) + raw)[4 if before else 0 :].rstrip(b"=")[:-3])
    return found


_FORMS = {name: forms(secret) for name, secret in ALL.items()}
_FORMS["api_key"] |= forms("apikey00111122223333444455556666")
_FORMS["rotated_key"] |= forms("rotated0777788889999000011112222")


def search(place: str, content: bytes, *, allowed: Iterable[str] = ()) -> list[str]:
    """Every planted secret in an output that is not allowed there, and what stands around it."""
    found = []
    for name, shapes in _FORMS.items():
        if name in allowed:
            continue
        for shape in shapes:
            at = content.find(shape)
            if at >= 0:
                around = content[max(0, at - 150) : at + len(shape) + 30]
                found.append(f"{name} in {place}: …{around!r}…")
                break
    return found

"""Webhooks: Alertmanager's webhook JSON, version 4, so that every receiver written for it works.

A message is what is new of one group, and what else fires on in it.
The format: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from monitor.model import Alert, Message
from monitor.notify.channel import DEFAULT_TIMEOUT, Wire, post, present, rfc3339, web_url

SIGNATURE_HEADER = "X-Ultravox-Monitor-Signature"

_NEVER = "0001-01-01T00:00:00Z"  # how Go writes "no time": endsAt of what fires


@dataclass(frozen=True, slots=True)
class Settings:
    """One webhook."""

    url: SecretStr
    secret: SecretStr | None = None  # signs every body; None: no signature
    timeout: timedelta = DEFAULT_TIMEOUT

    @property
    def group_by(self) -> tuple[str, ...]:
        """One message is about one kind of alert of one account."""
        return ("account", "alertname")

    async def send(self, wire: Wire, message: Message) -> None:
        """Send it; SendError when it was not accepted."""
        body = render(message)
        headers = {"Idempotency-Key": message.id}
        if self.secret is not None:
            headers[SIGNATURE_HEADER] = signature(self.secret, body)
        await post(wire, self.url, body, headers, self.timeout)


def signature(secret: SecretStr, body: bytes) -> str:
    """`sha256=` and the hex HMAC-SHA256 of the body."""
    return "sha256=" + hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()


def render(message: Message) -> bytes:
    """The body: the same bytes whenever it is rendered, so that a retry is a retry."""
    own_url = web_url(message.external_url)
    told = [_alert(entry.alert, own_url) for entry in message.entries]
    told += [_alert(alert, own_url) for alert in message.still]
    group = dict(message.group)
    body = {
        "version": "4",
        "groupKey": f"{{}}:{{{', '.join(f'{name}={json.dumps(value)}' for name, value in group.items())}}}",
        "truncatedAlerts": message.left_out,
        "status": "firing" if message.fires else "resolved",
        "receiver": message.receiver,
        "groupLabels": group,
        "commonLabels": _common([alert["labels"] for alert in told]),
        "commonAnnotations": _common([alert["annotations"] for alert in told]),
        "externalURL": own_url,
        "alerts": told,
    }
    return json.dumps(body).encode()


def _alert(alert: Alert, own_url: str) -> dict[str, Any]:
    labels = present(alert.labels)
    return {
        "status": "firing" if alert.ends_at is None else "resolved",
        "labels": labels,
        "annotations": dict(alert.annotations),
        "startsAt": rfc3339(alert.starts_at),
        "endsAt": _NEVER if alert.ends_at is None else rfc3339(alert.ends_at),
        "generatorURL": own_url,
        "fingerprint": fingerprint(labels),
    }


def _common(pairs: list[dict[str, str]]) -> dict[str, str]:
    """What all of them say."""
    first, *others = pairs
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def fingerprint(labels: dict[str, str]) -> str:
    """Alertmanager's own name for a label set: FNV-1a, 64 bits, over the sorted pairs."""
    digest = 0xCBF29CE484222325
    for name, value in sorted(labels.items()):
        for byte in b"%s\xff%s\xff" % (_utf8(name), _utf8(value)):
            digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return f"{digest:016x}"


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")  # a lone surrogate has no UTF-8

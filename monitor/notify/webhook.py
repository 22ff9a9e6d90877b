"""Webhooks: Alertmanager's webhook JSON, version 4, so that every receiver written for it works.

One alert a message for now; grouping is decided before this file, not in it.
The format: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from monitor.model import MessageKind, Notification
from monitor.notify.channel import DEFAULT_TIMEOUT, Wire, post, present, rfc3339, web_url

SIGNATURE_HEADER = "X-Ultravox-Monitor-Signature"

_GROUPED_BY = ("account", "agent_id", "alertname", "batch_id")
_NEVER = "0001-01-01T00:00:00Z"  # how Go writes "no time": endsAt of what fires


@dataclass(frozen=True, slots=True)
class Settings:
    """One webhook."""

    url: SecretStr
    secret: SecretStr | None = None  # signs every body; None: no signature
    timeout: timedelta = DEFAULT_TIMEOUT

    async def send(self, wire: Wire, notification: Notification) -> None:
        """Send it; SendError when it was not accepted."""
        body = render(notification, wire.external_url)
        headers = {"Idempotency-Key": notification.id}
        if self.secret is not None:
            headers[SIGNATURE_HEADER] = signature(self.secret, body)
        await post(wire, self.url, body, headers, self.timeout)


def signature(secret: SecretStr, body: bytes) -> str:
    """`sha256=` and the hex HMAC-SHA256 of the body."""
    return "sha256=" + hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()


def render(notification: Notification, external_url: str | None) -> bytes:
    """The body: the same bytes whenever it is rendered, so that a retry is a retry."""
    alert = notification.alert
    status = "resolved" if notification.kind is MessageKind.RESOLVED else "firing"
    labels, annotations = present(alert.labels), dict(alert.annotations)
    group = {name: labels[name] for name in _GROUPED_BY if name in labels}
    own_url = web_url(external_url)
    message = {
        "version": "4",
        "groupKey": f"{{}}:{{{', '.join(f'{name}={json.dumps(value)}' for name, value in group.items())}}}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": notification.receiver,
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": own_url,
        "alerts": [
            {
                "status": status,
                "labels": labels,
                "annotations": annotations,
                "startsAt": rfc3339(alert.starts_at),
                "endsAt": _NEVER if alert.ends_at is None else rfc3339(alert.ends_at),
                "generatorURL": own_url,
                "fingerprint": fingerprint(labels),
            }
        ],
    }
    return json.dumps(message).encode()


def fingerprint(labels: dict[str, str]) -> str:
    """Alertmanager's own name for a label set: FNV-1a, 64 bits, over the sorted pairs."""
    digest = 0xCBF29CE484222325
    for name, value in sorted(labels.items()):
        for byte in b"%s\xff%s\xff" % (_utf8(name), _utf8(value)):
            digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return f"{digest:016x}"


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")  # a lone surrogate has no UTF-8

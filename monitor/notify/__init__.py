"""The channels: ways to tell somebody. One small file each; adding one is that file and one line here.

Nothing here decides what is said or when it is tried again.
"""

from __future__ import annotations

from types import ModuleType

from monitor.notify import alertmanager, apprise, webhook
from monitor.notify.channel import SendFailure

CHANNELS: dict[str, ModuleType] = {
    "alertmanager": alertmanager,
    "apprise": apprise,
    "webhook": webhook,
}
"""The configuration's key of each channel. Its module's frozen `Settings` are the channel."""

FAILURES: tuple[str, ...] = tuple(failure.value for failure in SendFailure)
"""Every reason why a message was not taken."""

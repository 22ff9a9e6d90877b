"""The HTTP surface: metrics, the JSON that views read, the page, health, reload.

Everything is drawn from a Snapshot; nothing here changes what is
watched but the call to reload, and whom is told but a mute.
"""

from monitor.web.access import Access
from monitor.web.server import Serving, Settings, serve
from monitor.web.surface import ReloadRefusedError, Surface

__all__ = ["Access", "ReloadRefusedError", "Serving", "Settings", "Surface", "serve"]

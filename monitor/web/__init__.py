"""The HTTP surface: metrics, the JSON that views read, the page, health, reload.

Everything is drawn from a Snapshot; nothing here changes what is watched but the call to reload.
"""

from monitor.web.server import ReloadRefusedError, Settings, Surface, serve

__all__ = ["ReloadRefusedError", "Settings", "Surface", "serve"]

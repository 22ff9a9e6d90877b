"""The Ultravox API, read only. Nothing outside this package talks to it."""

from monitor.ultravox.client import ENDPOINTS, AccountAnswer, ApiSettings, Client, UltravoxError

__all__ = ["ENDPOINTS", "AccountAnswer", "ApiSettings", "Client", "UltravoxError"]

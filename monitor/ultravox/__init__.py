"""The Ultravox API, read only. Nothing outside this package talks to it."""

from monitor.ultravox.client import ENDPOINTS, AccountAnswer, AgentAnswer, BatchPage, Call, Client
from monitor.ultravox.transport import ApiSettings, UltravoxError

__all__ = [
    "ENDPOINTS",
    "AccountAnswer",
    "AgentAnswer",
    "ApiSettings",
    "BatchPage",
    "Call",
    "Client",
    "UltravoxError",
]

"""A pretend Ultravox on a real socket, for demonstrations, tests and first steps without a key.

It knows nothing of the monitor, so that it cannot be wrong in the same way.
"""

from monitor.simulator.plan import ENDPOINTS, Fault, FaultKind
from monitor.simulator.scenario import Scenario, ScenarioError, default_api_key, load, repeated, shipped
from monitor.simulator.server import Request, Simulator, serve

__all__ = [
    "ENDPOINTS",
    "Fault",
    "FaultKind",
    "Request",
    "Scenario",
    "ScenarioError",
    "Simulator",
    "default_api_key",
    "load",
    "repeated",
    "serve",
    "shipped",
]

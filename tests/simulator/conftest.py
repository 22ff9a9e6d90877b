"""The moved clock and the started simulator of tests/test_simulator.py, for the tests in this folder."""

from test_simulator import clock, start

__all__ = ["clock", "start"]

"""Ultravox Batch Monitor: watches outbound call batches and speaks up before people are left uncalled."""

__version__ = "0.1.0"

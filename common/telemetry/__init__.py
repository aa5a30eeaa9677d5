"""Logs, traces, metrics, and the context of a request that they share."""

"""Logs, traces and metrics, and the request context that they share."""

"""Fault injection on real clusters under load, and a check of what their clients saw."""

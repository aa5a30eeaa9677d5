"""Faults on real clusters under load, and the check of what clients saw."""

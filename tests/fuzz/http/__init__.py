"""Fuzzing over HTTP."""

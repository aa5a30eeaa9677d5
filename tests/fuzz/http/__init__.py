"""Fuzzing of the HTTP interface."""

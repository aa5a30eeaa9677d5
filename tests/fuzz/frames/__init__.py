"""Fuzzing of the wire protocol between processes."""

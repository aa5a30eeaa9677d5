"""Fuzzing of frames between processes."""

"""Benchmarks; they are run by hand."""

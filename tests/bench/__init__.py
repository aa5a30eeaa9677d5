"""Benchmarks, which developers run by hand."""

"""Tests of tests.bench.load."""

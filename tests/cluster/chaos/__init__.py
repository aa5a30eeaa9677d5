"""Tests of the harness on real clusters: each fault once."""

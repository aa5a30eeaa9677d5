"""Tests of tests.chaos on real clusters, with each fault once."""

"""Tests of keys and tokens on real clusters."""

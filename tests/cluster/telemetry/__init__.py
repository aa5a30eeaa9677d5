"""Tests of metrics and logs on real clusters."""

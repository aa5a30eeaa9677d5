"""Tests of tests.chaos.report."""

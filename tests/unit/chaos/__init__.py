"""Tests of tests.chaos."""

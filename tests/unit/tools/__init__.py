"""Tests of tests.tools."""

"""Tests of common.protocol."""

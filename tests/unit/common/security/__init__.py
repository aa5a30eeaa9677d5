"""Tests of common.security."""

"""Tests of common.settings."""

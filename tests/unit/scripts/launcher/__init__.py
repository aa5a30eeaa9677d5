"""Tests of scripts.launcher."""

"""Tests of scripts.console."""

"""Tests of facade.streams."""

"""Tests of facade.api.content."""

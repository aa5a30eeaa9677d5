"""Tests of facade.server."""

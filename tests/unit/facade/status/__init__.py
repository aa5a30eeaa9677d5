"""Tests of facade.status."""

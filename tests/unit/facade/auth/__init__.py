"""Tests of facade.auth."""

"""Tests of facade.api."""

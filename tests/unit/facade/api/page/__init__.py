"""Tests of facade.api.page."""

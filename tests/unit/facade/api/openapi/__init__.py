"""Tests of facade.api.openapi."""

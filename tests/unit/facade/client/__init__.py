"""Tests of facade.client."""

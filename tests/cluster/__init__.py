"""Tests on real clusters."""

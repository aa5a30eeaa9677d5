"""Tests of real processes and whole clusters."""

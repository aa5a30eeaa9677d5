"""Measurements of long runs: resource samples, findings and plots."""

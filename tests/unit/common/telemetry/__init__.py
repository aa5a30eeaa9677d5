"""Tests of common.telemetry."""

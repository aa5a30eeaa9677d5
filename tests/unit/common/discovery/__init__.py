"""Tests of common.discovery."""

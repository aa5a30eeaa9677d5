"""Tests of scripts.client."""

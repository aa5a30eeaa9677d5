"""Unit tests of scripts.client."""

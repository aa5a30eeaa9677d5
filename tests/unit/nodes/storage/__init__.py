"""Tests of nodes.storage."""

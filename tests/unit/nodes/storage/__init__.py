"""Unit tests of nodes.storage."""

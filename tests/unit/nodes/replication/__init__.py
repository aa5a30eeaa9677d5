"""Tests of nodes.replication."""

"""Tests of nodes.replication.core, with one core at a time."""

"""Unit tests of nodes.hazelcast."""

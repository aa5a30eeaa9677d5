"""Tests of nodes.hazelcast."""

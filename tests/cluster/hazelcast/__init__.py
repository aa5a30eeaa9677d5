"""Tests of Java and of Hazelcast members with a real Java."""

"""Tests of common.rpc."""

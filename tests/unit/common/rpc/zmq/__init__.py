"""Tests of common.rpc.zmq."""

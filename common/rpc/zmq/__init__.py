"""ZeroMQ sockets; only this package imports zmq."""

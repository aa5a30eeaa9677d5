"""ZeroMQ sockets: the only package that imports zmq."""

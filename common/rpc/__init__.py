"""Requests and replies between processes: the transports of clients, and the server."""

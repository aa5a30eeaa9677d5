"""Requests and replies between processes: transports for clients, and the server."""

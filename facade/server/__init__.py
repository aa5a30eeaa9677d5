"""The HTTP server: waitress on our own event loop, with request validation and load shedding."""

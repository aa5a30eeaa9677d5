"""The HTTP server: waitress with a loop of our own, and what is refused before it reaches the application."""

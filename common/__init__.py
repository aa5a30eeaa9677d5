"""What all parts share: errors, wire messages, configuration, sockets. Imports nothing of ours."""

VERSION = "0.1.0"  # of all parts; pyproject.toml takes it from here

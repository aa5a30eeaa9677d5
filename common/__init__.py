"""Code that all packages share: errors, wire messages, configuration, sockets. It imports no other package of ours."""

VERSION = "0.1.0"  # of all packages, and in pyproject.toml

"""The registry: it lists the addresses of each service, and decides about the in-sync set."""

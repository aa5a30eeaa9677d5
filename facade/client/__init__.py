"""The client of registries and nodes: discovery, retries, failure detection and batching."""

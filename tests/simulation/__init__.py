"""A deterministic simulator: replicas, registries, facades and clients in one thread, with a seed."""

"""The faults, and the clusters into which they are injected."""

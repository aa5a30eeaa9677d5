"""The registry: who serves what."""

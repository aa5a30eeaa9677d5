"""The journal of a logging node: its records on disk, and an in-memory twin for tests."""

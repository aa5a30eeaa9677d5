"""Fuzzing that stays: what can be sent, over HTTP and over the wire, and what must hold whatever is sent."""

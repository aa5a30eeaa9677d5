"""Fuzzing of the HTTP interface and of the wire protocol, with checks that must hold for any input."""

"""Clients of the HTTP interface, and the output, export and import of the command line."""

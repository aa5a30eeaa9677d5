"""The HTTP interface: what requests say, and how they are answered."""

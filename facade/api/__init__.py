"""The HTTP interface: reads requests and forms responses."""

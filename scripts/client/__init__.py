"""A client of the HTTP interface, and what the command line prints and transfers with it."""

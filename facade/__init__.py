"""The HTTP front end: turns client requests into requests to the registries and nodes."""

"""The HTTP side: turns client requests into messages to the nodes."""

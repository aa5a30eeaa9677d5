"""What all parts share: errors, wire messages, configuration, sockets. Imports nothing of ours."""

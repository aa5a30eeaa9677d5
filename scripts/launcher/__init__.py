"""Starts, watches and stops the processes of a cluster on this machine."""

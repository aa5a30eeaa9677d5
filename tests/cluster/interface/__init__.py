"""Tests of the user interfaces: command line, shell scripts, page, and the walk-through of README.md."""

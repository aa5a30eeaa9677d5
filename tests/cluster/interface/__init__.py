"""Tests of what a person uses: the command line, the scripts, the page, and the walk through the README."""

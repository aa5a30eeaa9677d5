"""The console script `threefold`: one program for all commands."""

"""Tests of the package facade, one file for each module."""

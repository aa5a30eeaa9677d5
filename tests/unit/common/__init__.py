"""Tests of the package common, one file for each module."""

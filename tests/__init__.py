"""Tests: `test_<module>.py` for a module, the others run whole clusters."""

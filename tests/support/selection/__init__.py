"""Which tests run, and in which process."""

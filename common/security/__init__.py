"""Keys of processes, warnings about exposed addresses, and minimum versions of libraries."""

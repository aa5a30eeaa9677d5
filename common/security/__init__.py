"""Keys, exposed addresses, and versions of libraries that must not be used."""

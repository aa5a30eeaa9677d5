"""Where settings come from: the configuration file, and variables of the environment that override it."""

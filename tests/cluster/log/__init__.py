"""Real clusters as users of a log see them: fields, search, shippers."""

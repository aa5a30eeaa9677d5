"""Programs for people: cluster launcher, command line client, demo, keys, tokens, export and import."""

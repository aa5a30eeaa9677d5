"""The nodes: logging nodes store the messages, and the messages node answers with a static text."""

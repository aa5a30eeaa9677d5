"""The nodes: logging nodes keep the messages, the messages node answers a static text."""

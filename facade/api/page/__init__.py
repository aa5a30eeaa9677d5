"""The web pages: the page for operators, and the description of the API."""

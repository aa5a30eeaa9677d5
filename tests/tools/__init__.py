"""Tools for developers: generated documents, known vulnerabilities, and screenshots of the page."""

"""Tools for developers: what docs/ has from the code, known vulnerabilities, and pictures of the page."""

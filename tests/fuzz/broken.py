"""A harness as `tests.fuzz.frames.harness`, of a decoder that breaks: what coverage_guided must tell."""

import sys

import atheris


def one(data: bytes) -> None:
    """Breaks at any input that is not empty."""
    if data:
        raise ValueError("this decoder is broken")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()

"""A harness like tests.fuzz.frames.harness, whose decoder raises; coverage_guided must report that."""

import sys

import atheris


def one(data: bytes) -> None:
    """Raise for any input that is not empty."""
    if data:
        raise ValueError("this decoder is broken")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()

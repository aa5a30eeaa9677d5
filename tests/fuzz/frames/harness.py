"""The process that runs atheris, with libFuzzer's flags as arguments.

atheris ends its process itself, so tests.fuzz.frames.coverage_guided starts this module as a process of its own.
"""

import sys

import atheris

with atheris.instrument_imports(include=["common"]):
    from tests.fuzz.frames.frame_phase import check


def one(data: bytes) -> None:
    """Check one input; an exception is a finding."""
    check(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()

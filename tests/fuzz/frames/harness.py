"""What atheris runs, with libFuzzer's flags as arguments; it ends the process itself, so coverage_guided starts it."""

import sys

import atheris

with atheris.instrument_imports(include=["common"]):
    from tests.fuzz.frames.frame_phase import check


def one(data: bytes) -> None:
    """One input; what it raises is a finding."""
    check(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()

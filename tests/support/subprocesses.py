"""Modules that run in a process of their own, without the cost of measuring their coverage."""

import os
import subprocess
import sys

from scripts.launcher.processes import ROOT


def environment_without_coverage() -> dict[str, str]:
    """The environment of a process, and of all that it starts, whose coverage is not measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def run_module(module: str, *arguments: str) -> str:
    """Run `python -m module`; returns what it printed, also if it failed."""
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment_without_coverage(),
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout + ended.stderr

"""What some tests need of the machine: programs, rights, and a Java. What is missing is said once, at the end."""

import errno
import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable

import pytest

from common.errors import FatalError
from nodes.hazelcast import java

ROOT_RIGHTS = "root"  # to make network namespaces
JAVA = "java"  # Java and the Hazelcast jar
IPV6 = "ipv6"  # the loopback address ::1
# Requirements that are tried, because a container may have the program and not the right to use it.
TRIED = {
    "mount": ("unshare", "--mount", "true"),  # to mount a small disk
    "strace": ("strace", "-o", os.devnull, "true"),  # to make a disk fail
}


def is_missing(requirement: str) -> bool:
    """True if this machine lacks a program, the rights of root, or a Java with the Hazelcast jar."""
    if requirement == ROOT_RIGHTS:
        return os.geteuid() != 0
    if requirement == JAVA:
        try:
            java.find()
        except FatalError:
            return True
        return False
    if requirement == IPV6:
        with socket.socket(socket.AF_INET6) as probe:
            return probe.connect_ex(("::1", 9)) == errno.EADDRNOTAVAIL
    if shutil.which(requirement) is None:
        return True
    tried = TRIED.get(requirement)
    return tried is not None and subprocess.run(tried, check=False, capture_output=True).returncode != 0


class MissingRequirements:
    """Leaves out the tests that this machine cannot run, and counts them by what is missing.

    On CI nothing may be missing.
    """

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self._missing: dict[str, bool] = {}

    def select(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """The tests that this machine can run; raises pytest.UsageError on CI if there are others."""
        return [item for item in items if not self._lacks(item)]

    def sentence(self) -> str:
        """One line about the tests that were left out; empty if there are none."""
        if not self.left_out:
            return ""
        counts = ", ".join(f"{count} without {name}" for name, count in sorted(self.left_out.items()))
        return f"not tested, because this machine lacks something: {counts} (.ci/run installs what tests need)"

    def _lacks(self, item: pytest.Item) -> bool:
        missing = [name for name in _requirements(item) if self._is_missing(name)]
        if missing and os.environ.get("CI"):
            raise pytest.UsageError(f"{item.nodeid} needs {', '.join(missing)}, which must not be missing on CI")
        if missing:
            self.left_out[", ".join(missing)] += 1
        return bool(missing)

    def _is_missing(self, requirement: str) -> bool:
        if requirement not in self._missing:
            self._missing[requirement] = is_missing(requirement)
        return self._missing[requirement]


def _requirements(item: pytest.Item) -> Iterable[str]:
    """The requirements in the marks `needs` of a test, and of the fixtures that start a real cluster."""
    for mark in item.iter_markers("needs"):
        yield from mark.args
    if {"runtime", "cluster", "own_cluster"} & {*getattr(item, "fixturenames", ())}:
        yield JAVA

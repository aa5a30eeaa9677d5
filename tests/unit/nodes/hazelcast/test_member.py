"""Tests of nodes.hazelcast.member."""

import asyncio
from pathlib import Path

import pytest

from common.errors import FatalError
from nodes.hazelcast import member
from nodes.hazelcast.java import JavaRuntime


async def start(runtime: JavaRuntime, log_path: Path) -> None:
    """Start a member, and stop it at once."""
    address = "127.0.0.1:1"
    async with member.running_member(
        runtime, address=address, members=[address], cluster_name="alone", heap_mb=128, log_path=log_path
    ):
        pass


def test_a_java_that_cannot_be_executed_is_a_fatal_error(tmp_path: Path) -> None:
    """A missing executable is reported with the reason of the operating system."""
    runtime = JavaRuntime(tmp_path, 25, tmp_path / "x.jar", tmp_path / "x.jsa")

    with pytest.raises(FatalError, match=r"cannot start a Hazelcast member: .*No such file"):
        asyncio.run(start(runtime, tmp_path / "member.log"))

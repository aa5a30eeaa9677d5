"""Tests of scripts.launcher.cluster without processes; tests/cluster/test_launcher.py has real ones."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from common.errors import FatalError
from scripts.launcher.cluster import Cluster
from scripts.launcher.parts import Part
from scripts.launcher.ports import write_config


@contextmanager
def cluster_in(folder: Path, **options: Any) -> Iterator[Cluster]:
    """A cluster of three nodes and two registries, none of whose processes runs."""
    write_config(folder / "config.toml", registries=2)
    with closing(Cluster(folder / "config.toml", **options)) as made:
        made.folder.mkdir(parents=True, exist_ok=True)
        yield made


def test_each_process_of_the_configuration_is_a_part(tmp_path: Path) -> None:
    """In the order of their start; a part knows its address, and where its configuration is."""
    more = Part("facade-2", "127.0.0.1:1", ("facade",))
    with cluster_in(tmp_path, more=[more]) as one:
        names = ["registry-1", "registry-2", "messages-1", "logging-1", "logging-2", "logging-3", "facade", "facade-2"]
        assert names == [part.name for part in one.parts]
        second = one.parts[4]
        assert one.settings.service_ips.logging_service[1] == second.address
        port = second.address.partition(":")[2]
        arguments = ("nodes", "logging", "--host", "127.0.0.1", "--port", port, "--engine", one.engine)
        assert (*arguments, "--config", str(tmp_path / "config.toml")) == second.arguments


@pytest.mark.parametrize(("engine", "members"), [("hazelcast", 3), ("embedded", 0)])
def test_a_node_starts_a_member_only_with_hazelcast(tmp_path: Path, engine: str, members: int) -> None:
    """The option overrides the engine of the configuration."""
    with cluster_in(tmp_path, engine=engine) as one:
        found = [part.member for part in one.parts if part.member]
        assert list(one.settings.hazelcast.clients[:members]) == found
        assert engine == one.engine


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """The processes that are started get the same environment."""
    with cluster_in(tmp_path, environ={"THREEFOLD_STORAGE__DIRECTORY": "elsewhere"}) as one:
        assert tmp_path / "elsewhere" == one.folder


def test_a_cluster_without_processes_is_down(tmp_path: Path) -> None:
    """No part has a process id or is ready, nothing is compared, and there is nothing to stop."""
    with cluster_in(tmp_path) as one:
        assert {(None, "", False)} == {(status.pid, status.state, status.ready) for status in one.status()}
        assert [] == one.verify()
        one.down()


def test_a_wipe_removes_all_files_of_the_chosen_journals(tmp_path: Path) -> None:
    """Without numbers those of all nodes; other files in the folder stay, also backups."""
    with cluster_in(tmp_path) as one:
        journals = [one.journal(number) for number in (1, 2, 3)]
        files = [Path(f"{journal}{suffix}") for journal in journals for suffix in ("", "-wal", "-shm", ".lock")]
        kept = [one.folder / "tokens.toml", *(Path(f"{journals[1]}{suffix}") for suffix in (".bak", "-2026", ".gz"))]
        for file in (*files, *kept):
            file.touch()
        assert sorted(files[4:8]) == sorted(one.wipe([2]))
        assert sorted(files[:4] + files[8:]) == sorted(one.wipe([]))
        assert sorted(kept) == sorted(one.folder.iterdir())


def test_an_unknown_or_stopped_node_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    """The error says which numbers there are, and the journal of the other node stays."""
    with cluster_in(tmp_path) as one:
        one.journal(1).touch()
        for number in (0, 4):
            with pytest.raises(FatalError, match=f"there is no logging node {number}: they are numbered 1 to 3"):
                one.wipe([1, number])
        with pytest.raises(FatalError, match="logging-1 is not running"):
            one.kill([1])
        assert one.journal(1).exists()

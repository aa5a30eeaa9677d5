"""A cluster on this machine: starts, watches, kills and stops its processes."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import psutil

from common import config, hostport, ids, process
from common.errors import FatalError, PeerError
from common.protocol.messages import Ping, State, Status
from common.protocol.replication import Verified, Verify
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from common.security import keyring
from scripts.launcher import ports, processes
from scripts.launcher.parts import Part, PartStatus, Progress
from scripts.launcher.ping import ask_facade

UP_S = 120.0  # timeout of a start; 5 s measured on 2 cores, 60 s beside several other clusters
PING_S = 0.25  # timeout of a ping on this machine
VERIFY_S = 60.0  # timeout for one node to compare and repair its journal
VERIFIED_AGE_MS = 30_000  # minimum age of messages that are compared: younger ones may be in flight
FREED_S = 1.0  # wait for the ports of a process that was just killed: its threads end one after the other

_SUFFIXES = ("", "-wal", "-shm", ".lock")  # of the names of a journal's files
_STOP_ORDER = ("facade", "logging", "messages", "registry")

_MEMBER_UP = (State.FORMING, State.JOINING, State.READY)


class Cluster:
    """The processes of the cluster that config.toml describes.

    Args:
        path: the config.toml.
        environ: the environment of the processes; its settings override those of the file.
        engine: overrides `[storage] engine`; a running cluster keeps its engine.
        more: parts in addition to those in the file.
        within: returns a command prefix for a part, for example to run it in a network namespace.
        transport: asks the processes; None: real sockets, with the operator's key if there are keys.

    Attributes:
        path: the config.toml, absolute.
        settings: its content.
        engine: "hazelcast" or "embedded".
        parts: all processes, also those that do not run.
        transport: asks them, as an operator.
    """

    def __init__(
        self,
        path: Path,
        *,
        environ: Mapping[str, str] = os.environ,
        engine: str | None = None,
        more: Iterable[Part] = (),
        within: Callable[[Part], tuple[str, ...]] = lambda _part: (),
        transport: PooledTransport | None = None,
    ) -> None:
        self._within = within
        self._environ = environ
        self.path = path.resolve()
        self.settings = config.load(self.path, environ)
        self._processes = processes.Processes(self.path.parent / self.settings.storage.directory)
        self.engine = self._processes.engine() or engine or self.settings.storage.engine
        self.parts = (*self._all_parts(), *more)
        self.transport = transport or PooledTransport(
            process.keyring_of(self.settings, self.path.parent, keyring.OPERATOR)
        )

    def up(self, progress: Progress) -> None:
        """Start all parts that do not run, and wait until all are ready.

        Raises:
            FatalError: everything runs already, a port is taken, or a process ended or was not ready within UP_S.
        """
        missing = [part for part in self.parts if self._process(part) is None]
        if not missing:
            raise FatalError("the cluster is up already: `status` shows it, `down` ends it")
        _refuse_taken_ports(missing)
        self._start_all(missing, progress)

    def start(self, numbers: Iterable[int], progress: Progress) -> None:
        """Start logging nodes by number, 1 to N; raises FatalError if one runs already or does not become ready."""
        parts = self._logging(numbers)
        if running := [part.name for part in parts if self._process(part)]:
            raise FatalError(f"{', '.join(running)} is running already")
        _refuse_taken_ports(parts)
        self._start_all(parts, progress)

    def kill(self, numbers: Iterable[int]) -> list[int]:
        """Kill logging nodes and their members with SIGKILL, all at once; returns the process ids.

        Raises:
            FatalError: a node does not exist or does not run; then nothing is killed.
        """
        victims = []
        for part in self._logging(numbers):
            if (process := self._process(part)) is None:
                raise FatalError(f"{part.name} is not running")
            victims += [process, *process.children(recursive=True)]
        processes.end(victims, psutil.Process.kill)
        return [victim.pid for victim in victims]

    def last_line(self, name: str) -> str:
        """The last line of the log of a part, and the path of the log."""
        return self._processes.last_line(name)

    def wipe(self, numbers: Iterable[int]) -> list[Path]:
        """Remove the journals of logging nodes, of all nodes if `numbers` is empty; returns the removed files.

        Raises:
            FatalError: a node runs or does not exist; then nothing is removed.
        """
        parts = self._logging(numbers) or [part for part in self.parts if part.name.startswith("logging-")]
        if running := [part.name for part in parts if self._process(part)]:
            raise FatalError(f"{', '.join(running)} is running: stop it first")
        names = sorted(_journal(part.address) for part in parts)
        found = [file for name in names for suffix in _SUFFIXES if (file := self.folder / f"{name}{suffix}").exists()]
        for file in found:
            file.unlink()
        return found

    def verify(self) -> list[Verified]:
        """Let each running logging node compare its journal with those of the others, and repair it.

        Raises:
            FatalError: a running node did not answer.
        """
        until = ids.last_id(ids.now_ms() - VERIFIED_AGE_MS)
        nodes = [part for part in self.parts if part.name.startswith("logging-") and self._process(part)]
        try:
            return [
                ask(self.transport, node.address, Verify(until=until), Verified, timeout_s=VERIFY_S) for node in nodes
            ]
        except PeerError as error:
            raise FatalError(f"a node could not compare its journal: {error}") from error

    def status(self) -> list[PartStatus]:
        """The state of each part."""
        return [self._status(part) for part in self.parts]

    @contextmanager
    def running(self, progress: Progress) -> Iterator[Self]:
        """Start the cluster, and kill all its processes at the end of the block."""
        try:
            self.up(progress)
            yield self
        finally:
            self.end()
            self.close()

    def end(self) -> None:
        """Kill all processes with SIGKILL."""
        found = [process for name in self._processes.names() if (process := self._processes.find(name))]
        processes.end([one for process in found for one in (process, *process.children())], psutil.Process.kill)
        self._processes.forget()

    def down(self) -> None:
        """Stop all processes with SIGTERM, the facade first and the registry last; kill those that hang."""
        # One after the other: members that leave at the same time wait 5 s for each other.
        names = self._processes.names()  # config.toml may have changed since the start
        for name in sorted(names, key=lambda name: _STOP_ORDER.index(name.partition("-")[0])):
            if process := self._processes.find(name):
                tree = [process, *process.children(recursive=True)]
                processes.end([process], psutil.Process.terminate)
                processes.end(tree, psutil.Process.kill)
        self._processes.forget()

    @property
    def folder(self) -> Path:
        """The folder of journals and logs."""
        return self.path.parent / self.settings.storage.directory

    def journal(self, number: int) -> Path:
        """The path of the journal of a logging node, 1 to N."""
        (part,) = self._logging([number])
        return self.folder / _journal(part.address)

    def close(self) -> None:
        """Close the sockets of this object; the processes keep running."""
        self.transport.close()

    def _all_parts(self) -> Iterable[Part]:
        settings, file = self.settings, ("--config", str(self.path))
        for number, address in enumerate(settings.registry.addresses, 1):
            yield Part(f"registry-{number}", address, ("registry", *_at(address), *file))
        for number, address in enumerate(settings.service_ips.messages_service, 1):
            yield Part(f"messages-{number}", address, ("nodes", "messages", *_at(address), *file))
        launch = settings.hazelcast.launch and self.engine == "hazelcast"
        members = settings.hazelcast.clients if launch else ()
        for index, address in enumerate(settings.service_ips.logging_service):
            command = ("nodes", "logging", *_at(address), "--engine", self.engine, *file)
            yield Part(f"logging-{index + 1}", address, command, members[index] if launch else None)
        yield Part("facade", settings.facade.address, ("facade", *file))

    def _logging(self, numbers: Iterable[int]) -> list[Part]:
        by_name = {part.name: part for part in self.parts}
        nodes = len(self.settings.service_ips.logging_service)
        wanted = sorted(set(numbers))
        if wrong := [number for number in wanted if not 1 <= number <= nodes]:
            raise FatalError(f"there is no logging node {wrong[0]}: they are numbered 1 to {nodes}")
        return [by_name[f"logging-{number}"] for number in wanted]

    def _start_all(self, parts: Sequence[Part], progress: Progress) -> None:
        """Start parts that do not run, and wait until they are ready."""
        running = any(part.member and self._process(part) for part in self.parts)
        nodes = [part for part in parts if part.member and not running]
        later = nodes[1:]
        for part in parts:
            if part not in later:
                self._start(part)
        if later:  # three members that start together compete for 5 s to be master
            self._wait(nodes[0], lambda status: status.state in _MEMBER_UP, progress, "member is up")
        for part in later:
            self._start(part)
        for part in parts:
            self._wait(part, lambda status: status.ready, progress, "ready")

    def _start(self, part: Part) -> None:
        self._processes.start(
            part.name, part.arguments, engine=self.engine, environ=self._environ, within=self._within(part)
        )

    def _process(self, part: Part) -> psutil.Process | None:
        return self._processes.find(part.name)

    def _status(self, part: Part) -> PartStatus:
        process = self._process(part)
        if process is None:
            return PartStatus(part, None, "", 0)
        if part.name.startswith("facade"):
            return PartStatus(part, process.pid, State.READY if _answers_http(part.address) else "", 0)
        try:
            status = ask(self.transport, part.address, Ping(), Status, timeout_s=PING_S)
        except PeerError:
            return PartStatus(part, process.pid, "", 0)
        return PartStatus(part, process.pid, status.state, status.members)

    def _wait(self, part: Part, good: Callable[[PartStatus], bool], progress: Progress, reached: str) -> None:
        def is_good() -> bool:
            status = self._status(part)
            if status.pid is None:
                raise FatalError(f"{part.name} ended: {self.last_line(part.name)}")
            return good(status)

        if not processes.wait_until(is_good, UP_S):
            raise FatalError(f"{part.name} is not ready after {UP_S:.0f} s: {self.last_line(part.name)}")
        progress(f"{part.name} at {part.address}: {reached}")


def _journal(address: str) -> str:
    return f"journal-{hostport.split(address)[1]}.sqlite"


def _at(address: str) -> tuple[str, ...]:
    host, port = hostport.split(address)
    return "--host", host, "--port", str(port)


def _refuse_taken_ports(parts: Iterable[Part]) -> None:
    for part in parts:
        for address in filter(None, (part.address, part.member)):
            if not processes.wait_until(partial(_is_free, address), FREED_S):
                raise FatalError(f"{part.name} cannot start: {address} is taken by another process")


def _is_free(address: str) -> bool:
    return not ports.taken(address)


def _answers_http(address: str) -> bool:
    try:
        ask_facade(address, "/readyz")
    except FatalError:
        return False
    return True

"""Starts, watches, kills and stops the processes of one cluster on this machine."""

import http.client
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psutil

from common import config, ids, process
from common.errors import FatalError, PeerError
from common.protocol.messages import Ping, State, Status
from common.protocol.replication import Verified, Verify
from common.rpc.pooled import PooledTransport
from common.rpc.transport import ask
from common.security import keyring
from scripts.launcher import ports, processes
from scripts.launcher.parts import Part, PartStatus, Progress

UP_S = 120.0  # for all to be ready; 5 s measured on 2 cores, 60 s with several other clusters beside
PING_S = 0.25  # for one answer on this machine
VERIFY_S = 60.0  # for one node to compare and repair its journal
VERIFIED_AGE_MS = 30_000  # of the newest messages that are compared: no longer in flight
FREED_S = 1.0  # for the ports of a process that was just killed: its threads end one after the other

_SUFFIXES = ("", "-wal", "-shm", ".lock")  # of the files of a journal
_STOP_ORDER = ("facade", "logging", "messages", "registry")

_MEMBER_UP = (State.FORMING, State.JOINING, State.READY)


class Cluster:
    """The processes that config.toml names.

    Args:
        path: the config.toml.
        engine: instead of `[storage] engine`; a cluster that is up keeps the one that it has.
        more: parts beside those that the file names.
        within: the prefix of the command of a part, for example to run it in a network namespace.
    """

    def __init__(
        self,
        path: Path = config.DEFAULT_PATH,
        *,
        engine: str | None = None,
        more: Iterable[Part] = (),
        within: Callable[[Part], tuple[str, ...]] = lambda _part: (),
    ) -> None:
        self._within = within
        self._path = path.resolve()
        self.settings = config.load(self._path)
        self._processes = processes.Processes(self._path.parent / self.settings.storage.directory)
        self.engine = self._processes.engine() or engine or self.settings.storage.engine
        self.parts = (*self._all_parts(), *more)
        self.transport = PooledTransport(process.keyring_of(self.settings, self._path.parent, keyring.OPERATOR))

    def up(self, progress: Progress) -> None:
        """Start what does not run and return when all is ready.

        Raises:
            FatalError: a port is taken, or a process ended or was not ready within UP_S.
        """
        missing = [part for part in self.parts if self._process(part) is None]
        if not missing:
            raise FatalError("the cluster is up already: `status` shows it, `down` ends it")
        _refuse_taken_ports(missing)
        self._start_all(missing, progress)

    def start(self, numbers: Iterable[int], progress: Progress) -> None:
        """Start logging nodes by number, 1 to N; raises FatalError when one runs or does not become ready."""
        parts = self._logging(numbers)
        if running := [part.name for part in parts if self._process(part)]:
            raise FatalError(f"{', '.join(running)} is running already")
        _refuse_taken_ports(parts)
        self._start_all(parts, progress)

    def kill(self, numbers: Iterable[int]) -> list[int]:
        """SIGKILL logging nodes by number and their members, all at once; the process ids that were killed.

        Raises:
            FatalError: there is no such node, or it does not run; then nothing is killed.
        """
        victims = []
        for part in self._logging(numbers):
            if (process := self._process(part)) is None:
                raise FatalError(f"{part.name} is not running")
            victims += [process, *process.children(recursive=True)]
        processes.end(victims, psutil.Process.kill)
        return [victim.pid for victim in victims]

    def last_line(self, name: str) -> str:
        """What the log of a part said last, and where it is."""
        return self._processes.last_line(name)

    def wipe(self, numbers: Iterable[int]) -> list[Path]:
        """Remove what logging nodes have on disk, of all nodes when no number is given; the files that were removed.

        Raises:
            FatalError: one of them runs, or there is no such node; then nothing is removed.
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
        """Have each logging node that answers compare its journal with those of the others, and repair it.

        Raises:
            FatalError: a node that runs did not answer.
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
        """How each part is now."""
        return [self._status(part) for part in self.parts]

    @contextmanager
    def running(self, progress: Progress) -> Iterator[Self]:
        """The cluster while the block runs; then every process of it is killed."""
        try:
            self.up(progress)
            yield self
        finally:
            self.end()
            self.close()

    def end(self) -> None:
        """SIGKILL everything."""
        found = [process for name in self._processes.names() if (process := self._processes.find(name))]
        processes.end([one for process in found for one in (process, *process.children())], psutil.Process.kill)
        self._processes.forget()

    def down(self) -> None:
        """Stop everything with SIGTERM, the facade first and the registry last; what hangs is killed."""
        # One after the other: members that leave together wait for each other for 5 s.
        names = self._processes.names()  # not those of config.toml, which may have changed meanwhile
        for name in sorted(names, key=lambda name: _STOP_ORDER.index(name.partition("-")[0])):
            if process := self._processes.find(name):
                tree = [process, *process.children(recursive=True)]
                processes.end([process], psutil.Process.terminate)
                processes.end(tree, psutil.Process.kill)
        self._processes.forget()

    @property
    def folder(self) -> Path:
        """Where journals and logs are."""
        return self._path.parent / self.settings.storage.directory

    def journal(self, number: int) -> Path:
        """The journal of a logging node, 1 to N."""
        (part,) = self._logging([number])
        return self.folder / _journal(part.address)

    def close(self) -> None:
        """Close the sockets of this object; the processes go on."""
        self.transport.close()

    def _all_parts(self) -> Iterable[Part]:
        settings, file = self.settings, ("--config", str(self._path))
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
        """Start parts that do not run; return when they are ready."""
        running = any(part.member and self._process(part) for part in self.parts)
        nodes = [part for part in parts if part.member and not running]
        later = nodes[1:]
        for part in parts:
            if part not in later:
                self._start(part)
        if later:  # three members that start together argue for 5 s about who is master
            self._wait(nodes[0], lambda status: status.state in _MEMBER_UP, progress, "member is up")
        for part in later:
            self._start(part)
        for part in parts:
            self._wait(part, lambda status: status.ready, progress, "ready")

    def _start(self, part: Part) -> None:
        self._processes.start(part.name, part.arguments, engine=self.engine, within=self._within(part))

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

    def _wait(self, part: Part, good: Callable[[PartStatus], bool], progress: Progress, told: str) -> None:
        began = time.monotonic()
        while not good(status := self._status(part)):
            if status.pid is None:
                raise FatalError(f"{part.name} ended: {self.last_line(part.name)}")
            if time.monotonic() - began > UP_S:
                raise FatalError(f"{part.name} is not ready after {UP_S:.0f} s: {self.last_line(part.name)}")
            time.sleep(processes.POLL_S)
        progress(f"{part.name} at {part.address}: {told}")


def _journal(address: str) -> str:
    return f"journal-{config.split(address)[1]}.sqlite"


def _at(address: str) -> tuple[str, ...]:
    host, port = config.split(address)
    return "--host", host, "--port", str(port)


def _refuse_taken_ports(parts: Iterable[Part]) -> None:
    ends = time.monotonic() + FREED_S
    for part in parts:
        for address in filter(None, (part.address, part.member)):
            while ports.taken(address):
                if time.monotonic() > ends:
                    raise FatalError(f"{part.name} cannot start: {address} is taken by another process")
                time.sleep(processes.POLL_S)


def _answers_http(address: str) -> bool:
    connection = http.client.HTTPConnection(*config.split(address), timeout=2.0)
    try:
        connection.request("HEAD", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

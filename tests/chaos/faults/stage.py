"""What a fault of a torture run is done to: a cluster under load, on this machine or on hosts of its own."""

import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from common import config
from scripts.launcher import processes
from scripts.launcher.cluster import Cluster
from scripts.launcher.parts import Part
from scripts.launcher.ports import write_config
from tests.chaos.faults.hosts import Hosts
from tests.chaos.recorder import FULL, ONE_SLOW_WRITER, Load, Recorder

DEAD_S = 3.0  # that what was killed stays dead: as long as a lease
NODES = (1, 2, 3)
MESSAGES_PORT = 5001  # of the messages node of a cluster on hosts
REGISTRY_HOST = 4  # with a facade and the messages node; each node has a host and a facade of its own


@dataclass(frozen=True, slots=True)
class Stage:
    """A cluster of three nodes under load.

    Attributes:
        cluster: with two registries, or, on hosts, with one.
        recorder: loads it, and reads.
        chance: of this run.
        hang_s: that a paused process stays paused.
        hosts: those of the nodes and of the rest; None on one machine.
        at_last: what is to be done when all processes have ended.
        beside: on hosts: writes through the facade beside each node, in the order of the nodes.
        cut_off: recorders whose facade is on a smaller side of a split, or beside a faulty node: their outages are no
            figures.
    """

    cluster: Cluster
    recorder: Recorder
    chance: random.Random
    hang_s: float
    at_last: ExitStack
    hosts: Hosts | None = None
    beside: tuple[Recorder, ...] = ()
    cut_off: list[Recorder] = field(default_factory=list)

    def node(self, number: int) -> psutil.Process:
        """The process of a logging node."""
        return self.process(f"logging-{number}")

    def member(self, number: int) -> psutil.Process:
        """The Hazelcast member of a logging node."""
        (member,) = self.node(number).children()
        return member

    def process(self, name: str) -> psutil.Process:
        """The process of a part of the cluster."""
        (pid,) = [status.pid for status in self.cluster.status() if status.part.name == name]
        return psutil.Process(pid)

    def kill(self, numbers: Sequence[int]) -> None:
        """Logging nodes and their members die, stay dead for a while, and are started again."""
        self.recorder.mark("kill")
        self.cluster.kill(numbers)
        time.sleep(DEAD_S)
        self.cluster.start(numbers, quiet)

    def stop(self, number: int) -> None:
        """A logging node is told to stop, and is started again."""
        self.recorder.mark("stop")
        processes.end([self.node(number)], psutil.Process.terminate)
        self.recorder.mark("start")
        self.cluster.start([number], quiet)

    def pause(self, victims: Sequence[psutil.Process], hang_s: float) -> None:
        """Processes hang for a while."""
        self.recorder.mark("hang")
        with stopped(victims):
            time.sleep(hang_s)
        self.recorder.mark("resume")


@contextmanager
def stopped(victims: Sequence[psutil.Process]) -> Iterator[None]:
    """Processes that hang while the block runs."""
    for victim in victims:
        victim.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for victim in victims:
            victim.send_signal(signal.SIGCONT)


@contextmanager
def on_this_machine(folder: Path, chance: random.Random, hang_s: float, load: Load = FULL) -> Iterator[Stage]:
    """A cluster on free ports; its load begins when the block does, and every process of it is killed at the end."""
    write_config(folder / "config.toml", registries=2)
    with ExitStack() as at_last, Cluster(folder / "config.toml").running(quiet) as cluster:
        yield Stage(cluster, Recorder(cluster.settings.facade.address, load=load), chance, hang_s, at_last)


@contextmanager
def on_hosts(folder: Path, chance: random.Random, hang_s: float) -> Iterator[Stage]:
    """A cluster on four hosts: each node with its member and a facade on one, the rest on the fourth.

    Raises:
        FatalError: this machine cannot make network namespaces.
    """
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts(REGISTRY_HOST))
        _write_configs(folder, hosts)
        beside = [
            Part(f"facade-{number}", f"{hosts.address(number)}:5000", ("facade", "--config", str(_own(folder, number))))
            for number in NODES
        ]
        cluster = Cluster(
            folder / "config.toml", more=beside, within=lambda part: hosts.within(config.split(part.address)[0])
        )
        stack.enter_context(cluster.running(quiet))
        recorders = tuple(
            Recorder(part.address, f"host{number}w", load=ONE_SLOW_WRITER) for number, part in enumerate(beside, 1)
        )
        yield Stage(cluster, Recorder(cluster.settings.facade.address), chance, hang_s, stack, hosts, beside=recorders)


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


def _write_configs(folder: Path, hosts: Hosts) -> None:
    """The usual configuration with the addresses of the hosts, and one for each facade, with an address of its own."""
    nodes = ", ".join(f'"{hosts.address(number)}:{node_port(number)}"' for number in NODES)
    members = ", ".join(f'"{hosts.address(number)}:{5700 + number}"' for number in NODES)
    rest = hosts.address(REGISTRY_HOST)
    common = (
        f'[service_ips]\nmessages-service = ["{rest}:{MESSAGES_PORT}"]\nlogging-service = [{nodes}]\n'
        f'[hazelcast]\nhazelcast-cluster-name = "hosts"\nhazelcast-clients = [{members}]\n'
        f'[registry]\naddresses = ["{rest}:5005"]\n'
    )
    (folder / "config.toml").write_text(f'{common}[facade]\naddress = "{rest}:5000"\n')
    for number in NODES:
        _own(folder, number).write_text(f'{common}[facade]\naddress = "{hosts.address(number)}:5000"\n')


def node_port(number: int) -> int:
    """The port of a logging node of a cluster on hosts."""
    return MESSAGES_PORT + number


def _own(folder: Path, number: int) -> Path:
    return folder / f"config-{number}.toml"

"""The cluster under load into which faults are injected, on this machine or on simulated hosts."""

import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from common import hostport
from scripts.launcher import processes
from scripts.launcher.cluster import Cluster
from scripts.launcher.parts import Part
from scripts.launcher.ports import write_config
from tests.chaos.faults.hosts import Hosts
from tests.chaos.recorder import FULL, ONE_SLOW_WRITER, LoadProfile, Recorder
from tests.support.clusters import quiet

DEAD_S = 3.0  # how long a killed process stays dead: one lease
NODES = (1, 2, 3)
MESSAGES_PORT = 5001  # of the messages node in a cluster on hosts
REGISTRY_HOST = 4  # runs the registry, a facade and the messages node; hosts 1 to 3 run one node and one facade each


@dataclass(frozen=True, slots=True)
class Stage:
    """A cluster of three nodes under load.

    Attributes:
        cluster: has two registries on this machine, and one on hosts.
        recorder: writes and reads through the main facade.
        chance: source of the random choices of this run.
        hang_s: how long a paused process stays paused.
        cleanup: callbacks that run after all processes have ended.
        hosts: the simulated hosts; None on this machine.
        host_recorders: on hosts, recorders of the facades that share a host with a node, in the order of the nodes.
        cut_off: recorders whose facade is on a smaller side of a split, or on the host of a faulty node; their outages
            are not reported.
        excused: recorders whose facade is on the host of a faulty node and may fail with it; their errors do not count.
    """

    cluster: Cluster
    recorder: Recorder
    chance: random.Random
    hang_s: float
    cleanup: ExitStack
    hosts: Hosts | None = None
    host_recorders: tuple[Recorder, ...] = ()
    cut_off: list[Recorder] = field(default_factory=list)
    excused: list[Recorder] = field(default_factory=list)

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
        """Kill logging nodes and their members, and restart them after DEAD_S."""
        self.recorder.mark("kill")
        self.cluster.kill(numbers)
        time.sleep(DEAD_S)
        self.cluster.start(numbers, quiet)

    def stop(self, number: int) -> None:
        """Stop a logging node with SIGTERM, and restart it."""
        self.recorder.mark("stop")
        processes.end([self.node(number)], psutil.Process.terminate)
        self.recorder.mark("start")
        self.cluster.start([number], quiet)

    def pause(self, victims: Sequence[psutil.Process], hang_s: float) -> None:
        """Pause processes for `hang_s`."""
        self.recorder.mark("hang")
        with stopped(victims):
            time.sleep(hang_s)
        self.recorder.mark("resume")


@contextmanager
def stopped(victims: Sequence[psutil.Process]) -> Iterator[None]:
    """Pause processes with SIGSTOP while the block runs."""
    for victim in victims:
        victim.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for victim in victims:
            victim.send_signal(signal.SIGCONT)


@contextmanager
def on_this_machine(folder: Path, chance: random.Random, hang_s: float, load: LoadProfile = FULL) -> Iterator[Stage]:
    """A cluster on free ports of this machine; all its processes are killed after the block."""
    write_config(folder / "config.toml", registries=2)
    with ExitStack() as cleanup, Cluster(folder / "config.toml").running(quiet) as cluster:
        yield Stage(cluster, Recorder(cluster.settings.facade.address, load=load), chance, hang_s, cleanup)


@contextmanager
def on_hosts(folder: Path, chance: random.Random, hang_s: float, load: LoadProfile = FULL) -> Iterator[Stage]:
    """A cluster on four simulated hosts: three with a node, its member and a facade; the fourth with the rest.

    Raises:
        FatalError: this machine cannot create network namespaces.
    """
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts(REGISTRY_HOST))
        _write_configs(folder, hosts)
        facades = [
            Part(
                f"facade-{number}",
                f"{hosts.address(number)}:5000",
                ("facade", "--config", str(_facade_config(folder, number))),
            )
            for number in NODES
        ]
        cluster = Cluster(
            folder / "config.toml", more=facades, within=lambda part: hosts.within(hostport.split(part.address)[0])
        )
        stack.enter_context(cluster.running(quiet))
        recorders = tuple(
            Recorder(part.address, f"host{number}w", load=ONE_SLOW_WRITER) for number, part in enumerate(facades, 1)
        )
        recorder = Recorder(cluster.settings.facade.address, load=load)
        yield Stage(cluster, recorder, chance, hang_s, stack, hosts, recorders)


def _write_configs(folder: Path, hosts: Hosts) -> None:
    """Write the configuration of the cluster, and one for each facade on the host of a node."""
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
        _facade_config(folder, number).write_text(f'{common}[facade]\naddress = "{hosts.address(number)}:5000"\n')


def node_port(number: int) -> int:
    """The port of a logging node of a cluster on hosts."""
    return MESSAGES_PORT + number


def _facade_config(folder: Path, number: int) -> Path:
    """The configuration file of the facade on the host of a node."""
    return folder / f"config-{number}.toml"

"""What a torture run does to a cluster: each fault heals what it broke."""

import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from common.errors import FatalError
from scripts import processes
from scripts.checker import Outcome
from scripts.launcher import Cluster
from scripts.recorder import Recorder
from scripts.traffic import HttpClient

DEAD_S = 3.0  # that what was killed stays dead: as long as a lease
RESTARTS = 10  # of one rolling run
ACCEPTED = 8  # requests that a facade holds when it is told to stop: half of its threads
HOLD_S = 0.5  # for them to arrive, while no node answers


@dataclass(frozen=True, slots=True)
class Stage:
    """What a fault is done to.

    Attributes:
        cluster: of three nodes and two registries.
        recorder: loads it.
        chance: of this run.
        hang_s: that a paused process stays paused.
    """

    cluster: Cluster
    recorder: Recorder
    chance: random.Random
    hang_s: float

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

    def kill(self, numbers: list[int]) -> None:
        """Logging nodes and their members die, stay dead for a while, and are started again."""
        self.recorder.mark("kill")
        self.cluster.kill(numbers)
        time.sleep(DEAD_S)
        self.cluster.start(numbers, quiet)


def kill(stage: Stage) -> None:
    """One node and its member die, and are started again."""
    stage.kill([stage.chance.randint(1, 3)])


def kill2(stage: Stage) -> None:
    """Two of three die at once, one of them the oldest, and are started again."""
    stage.kill([1, stage.chance.randint(2, 3)])


def pause_node(stage: Stage) -> None:
    """A node hangs, its member does not."""
    _pause(stage, [stage.node(stage.chance.randint(1, 3))])


def pause_member(stage: Stage) -> None:
    """A member hangs, its node does not."""
    _pause(stage, [stage.member(stage.chance.randint(1, 3))])


def pause_member2(stage: Stage) -> None:
    """Two of three members hang, their nodes do not."""
    _pause(stage, [stage.member(number) for number in stage.chance.sample([1, 2, 3], 2)])


def registry(stage: Stage) -> None:
    """One of two registries dies or hangs, or both do; what hung dies then, too; all are started again."""
    victims = [stage.process("registry-1"), stage.process("registry-2")][: stage.chance.choice([1, 2])]
    if stage.chance.choice([True, False]):
        _pause(stage, victims, hang_s=2 * DEAD_S)
    stage.recorder.mark("kill")
    for victim in victims:
        victim.kill()
    time.sleep(DEAD_S)
    stage.cluster.up(quiet)


def stop(stage: Stage) -> None:
    """A node is told to stop, and is started again."""
    _stop_node(stage, stage.chance.randint(1, 3))


def roll(stage: Stage) -> None:
    """All nodes are restarted, one after the other, several times, SIGKILL and SIGTERM in turn."""
    for turn in range(RESTARTS):
        number = 1 + turn % 3
        if turn % 2:
            _stop_node(stage, number)
        else:
            stage.recorder.mark("kill")
            stage.cluster.kill([number])
            stage.cluster.start([number], quiet)


def parallel_key(stage: Stage) -> None:
    """Each of many messages is sent a hundred times at once with its idempotency key, while one or two nodes die."""
    with stage.recorder.volleys():
        time.sleep(1.0)
        stage.chance.choice([kill, kill2])(stage)
        time.sleep(1.0)


def facade(stage: Stage) -> None:
    """The facade is told to stop while it holds requests, and is started again.

    Raises:
        FatalError: a request that it had accepted was not answered with success.
    """
    cluster, victim = stage.cluster, stage.process("facade")
    clients = [HttpClient(cluster.settings.facade.address) for _ in range(ACCEPTED)]
    with ThreadPoolExecutor(ACCEPTED) as threads:
        with stopped([stage.node(number) for number in (1, 2, 3)]):  # so that what the facade accepts stays with it
            held = [
                threads.submit(stage.recorder.post, one, f"held{number}-0 payload")
                for number, one in enumerate(clients)
            ]
            time.sleep(HOLD_S)
            stage.recorder.mark("stop")
            victim.terminate()
        unanswered = [write.text for write in (post.result() for post in held) if write.outcome is not Outcome.OK]
    if unanswered:
        raise FatalError(f"{len(unanswered)} of {ACCEPTED} requests that the facade had accepted were not answered")
    processes.end([victim], psutil.Process.terminate)
    cluster.up(quiet)


FAULTS: dict[str, Callable[[Stage], None]] = {
    "kill": kill,
    "kill2": kill2,
    "pause-node": pause_node,
    "pause-member": pause_member,
    "pause-member2": pause_member2,
    "registry": registry,
    "stop": stop,
    "roll": roll,
    "facade": facade,
    "parallel-key": parallel_key,
}


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


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


def _pause(stage: Stage, victims: list[psutil.Process], *, hang_s: float | None = None) -> None:
    stage.recorder.mark("hang")
    with stopped(victims):
        time.sleep(stage.hang_s if hang_s is None else hang_s)
    stage.recorder.mark("resume")


def _stop_node(stage: Stage, number: int) -> None:
    stage.recorder.mark("stop")
    processes.end([stage.node(number)], psutil.Process.terminate)
    stage.recorder.mark("start")
    stage.cluster.start([number], quiet)

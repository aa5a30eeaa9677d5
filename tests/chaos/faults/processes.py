"""What a torture run does to processes: each fault heals what it broke. See also disk_faults and network_faults."""

import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from common.errors import FatalError
from scripts.client.connection import HttpClient
from scripts.launcher import processes
from tests.chaos.checker import Outcome
from tests.chaos.faults.stage import DEAD_S, NODES, Stage, quiet, stopped

RESTARTS = 10  # of one rolling run
ACCEPTED = 8  # requests that a facade holds when it is told to stop: half of its threads
HOLD_S = 0.5  # for them to arrive, while no node answers


def kill(stage: Stage) -> None:
    """One node and its member die, and are started again."""
    stage.kill([stage.chance.choice(NODES)])


def kill2(stage: Stage) -> None:
    """Two of three die at once, one of them the oldest, and are started again."""
    stage.kill([1, stage.chance.randint(2, 3)])


def kill3(stage: Stage) -> None:
    """All three die at once, and are started again."""
    stage.kill(NODES)


def pause_node(stage: Stage) -> None:
    """A node hangs, its member does not."""
    stage.pause([stage.node(stage.chance.choice(NODES))], stage.hang_s)


def pause_member(stage: Stage) -> None:
    """A member hangs, its node does not."""
    stage.pause([stage.member(stage.chance.choice(NODES))], stage.hang_s)


def pause_member2(stage: Stage) -> None:
    """Two of three members hang, their nodes do not."""
    stage.pause([stage.member(number) for number in stage.chance.sample(NODES, 2)], stage.hang_s)


def registry(stage: Stage) -> None:
    """One of two registries dies or hangs, or both do; what hung dies then, too; all are started again."""
    victims = [stage.process("registry-1"), stage.process("registry-2")][: stage.chance.choice([1, 2])]
    if stage.chance.choice([True, False]):
        stage.pause(victims, 2 * DEAD_S)
    stage.recorder.mark("kill")
    for victim in victims:
        victim.kill()
    time.sleep(DEAD_S)
    stage.cluster.up(quiet)


def stop(stage: Stage) -> None:
    """A node is told to stop, and is started again."""
    stage.stop(stage.chance.choice(NODES))


def roll(stage: Stage) -> None:
    """All nodes are restarted, one after the other, several times, SIGKILL and SIGTERM in turn."""
    for turn in range(RESTARTS):
        number = 1 + turn % 3
        if turn % 2:
            stage.stop(number)
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
        with stopped([stage.node(number) for number in NODES]):  # so that what the facade accepts stays with it
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

"""Process faults; each restarts or resumes its victims. See also tests.chaos.faults.disk and .network."""

import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from common.errors import FatalError
from scripts.client.connection import HttpClient
from scripts.launcher import processes
from tests.chaos.checker import WriteOutcome
from tests.chaos.faults.stage import DEAD_S, NODES, Stage, stopped
from tests.support.clusters import quiet

RESTARTS = 10  # in one rolling restart
ACCEPTED = 8  # requests that the facade has accepted when it gets SIGTERM: half of its threads
HOLD_S = 0.5  # for these requests to reach the facade, while no node answers


def kill(stage: Stage) -> None:
    """Kill one node and its member, and restart them."""
    stage.kill([stage.chance.choice(NODES)])


def kill2(stage: Stage) -> None:
    """Kill two of three nodes at once, one of them the oldest, and restart them."""
    stage.kill([1, stage.chance.randint(2, 3)])


def kill3(stage: Stage) -> None:
    """Kill all three nodes at once, and restart them."""
    stage.kill(NODES)


def pause_node(stage: Stage) -> None:
    """Pause a node, but not its member."""
    stage.pause([stage.node(stage.chance.choice(NODES))], stage.hang_s)


def pause_member(stage: Stage) -> None:
    """Pause a member, but not its node."""
    stage.pause([stage.member(stage.chance.choice(NODES))], stage.hang_s)


def pause_member2(stage: Stage) -> None:
    """Pause two of three members, but not their nodes."""
    stage.pause([stage.member(number) for number in stage.chance.sample(NODES, 2)], stage.hang_s)


def registry(stage: Stage) -> None:
    """Kill one or both of the two registries, half of the time after a pause, and restart them."""
    victims = [stage.process("registry-1"), stage.process("registry-2")][: stage.chance.choice([1, 2])]
    if stage.chance.choice([True, False]):
        stage.pause(victims, 2 * DEAD_S)
    stage.recorder.mark("kill")
    for victim in victims:
        victim.kill()
    time.sleep(DEAD_S)
    stage.cluster.up(quiet)


def stop(stage: Stage) -> None:
    """Stop a node with SIGTERM, and restart it."""
    stage.stop(stage.chance.choice(NODES))


def roll(stage: Stage) -> None:
    """Restart one node after the other, RESTARTS times, with SIGKILL and SIGTERM in turn."""
    for turn in range(RESTARTS):
        number = 1 + turn % 3
        if turn % 2:
            stage.stop(number)
        else:
            stage.recorder.mark("kill")
            stage.cluster.kill([number])
            stage.cluster.start([number], quiet)


def parallel_key(stage: Stage) -> None:
    """Kill one or two nodes while each message is sent a hundred times at once with its idempotency key."""
    with stage.recorder.volleys():
        time.sleep(1.0)
        stage.chance.choice([kill, kill2])(stage)
        time.sleep(1.0)


def facade(stage: Stage) -> None:
    """Stop the facade with SIGTERM while it holds accepted requests, and restart it.

    Raises:
        FatalError: an accepted request was not answered with success.
    """
    cluster, victim = stage.cluster, stage.process("facade")
    clients = [HttpClient(cluster.settings.facade.address) for _ in range(ACCEPTED)]
    with ThreadPoolExecutor(ACCEPTED) as threads:
        with stopped([stage.node(number) for number in NODES]):  # so that the facade cannot answer yet
            held = [
                threads.submit(stage.recorder.post, one, f"held{number}-0 payload")
                for number, one in enumerate(clients)
            ]
            time.sleep(HOLD_S)
            stage.recorder.mark("stop")
            victim.terminate()
        unanswered = [write.text for write in (post.result() for post in held) if write.outcome is not WriteOutcome.OK]
    if unanswered:
        raise FatalError(f"{len(unanswered)} of {ACCEPTED} requests that the facade had accepted were not answered")
    processes.end([victim], psutil.Process.terminate)
    cluster.up(quiet)

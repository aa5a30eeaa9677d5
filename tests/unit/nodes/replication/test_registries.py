"""Tests of nodes.replication.registries, with registries whose answers a test scripts."""

import asyncio
from collections.abc import Callable

from common.errors import TimedOutError, UnreachableError
from common.protocol.codec import Reply, Request
from common.protocol.replication import Fence, Identity, InSyncSet, Member, Renew, Renewed, Standing
from nodes.replication.registries import Registries

FIRST, SECOND = "first:1", "second:1"
ANSWER_S = 0.5
IN_SYNC = InSyncSet(2, (Member("a:1", 1, 1, listed=True),))
FENCE = Fence(node="a:1", incarnation=1, targets=(Identity("b:1", 2),))


class ScriptedTransport:
    """A transport to registries that answers, or raises, as scripted, and records the requests."""

    def __init__(self, **answers: Callable[[Request], Reply]) -> None:
        self._answers = answers
        self.asked: list[tuple[str, Request]] = []

    async def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """Answer a request."""
        assert timeout_s == ANSWER_S
        self.asked.append((address, request))
        return self._answers[address.partition(":")[0]](request)


def renewed(*, start: int = 7, standing: Standing = Standing.LISTED) -> Callable[[Request], Reply]:
    """A registry that answers every request with the same renewal."""
    return lambda _request: Renewed(registry=start, standing=standing, in_sync=IN_SYNC, live=("a:1",))


def unreachable(_request: Request) -> Reply:
    """A registry to which nothing can be sent."""
    raise UnreachableError(FIRST, "no connection")


def hung(_request: Request) -> Reply:
    """A registry that does not answer, and may have received the request."""
    raise TimedOutError(FIRST, "no reply")


def renewal(in_sync: InSyncSet = IN_SYNC) -> Renew:
    """A renewal of replica A."""
    return Renew(node="a:1", incarnation=1, registry=0, in_sync=in_sync, ready=True)


def registries_of(answers: ScriptedTransport, *addresses: str) -> Registries:
    """The registries as replica A asks them."""
    return Registries(answers, addresses or (FIRST, SECOND), renewal, ANSWER_S)


def test_the_first_registry_that_answers_decides() -> None:
    """The second registry learns the new set by a renewal before the replica relies on it."""
    answers = ScriptedTransport(first=renewed(), second=renewed(start=8))

    async def run() -> None:
        reply, others = await registries_of(answers).ask(FENCE)
        assert (7, []) == (reply and reply.registry, others)

    asyncio.run(run())
    assert [(FIRST, Fence), (SECOND, Renew), (SECOND, Renew)] == [(who, type(what)) for who, what in answers.asked]


def test_an_unreachable_registry_is_skipped() -> None:
    """A dead registry does not keep a member from being fenced, since the next one is asked."""

    async def run() -> None:
        reply, _ = await registries_of(ScriptedTransport(first=unreachable, second=renewed(start=8))).ask(FENCE)
        assert reply
        assert 8 == reply.registry

    asyncio.run(run())


def test_a_starting_registry_decides_only_if_no_other_one_answers() -> None:
    """A starting registry has fenced nobody, so one that restarts repeatedly does not block a fence."""

    async def run() -> None:
        starting = renewed(standing=Standing.STARTING)
        reply, _ = await registries_of(ScriptedTransport(first=starting, second=renewed(start=8))).ask(FENCE)
        assert reply
        assert 8 == reply.registry
        reply, _ = await registries_of(ScriptedTransport(first=starting, second=unreachable)).ask(FENCE)
        assert reply
        assert Standing.STARTING is reply.standing

    asyncio.run(run())


def test_a_renewal_is_repeated_for_the_start_that_the_registry_names() -> None:
    """The first renewal does not count at a new start, since it may have waited in a queue since an earlier one."""
    answers = ScriptedTransport(first=renewed())

    async def run() -> None:
        registries = registries_of(answers, FIRST)
        await registries.ask(renewal())
        await registries.ask(renewal())

    asyncio.run(run())
    assert [0, 7, 7] == [what.registry for _, what in answers.asked if isinstance(what, Renew)]


def test_only_a_renewal_that_may_have_arrived_counts() -> None:
    """The last renewal that a registry may have received counts from the time when it was sent."""

    async def run() -> None:
        registries = registries_of(ScriptedTransport(first=unreachable, second=unreachable))
        assert (None, []) == await registries.ask(renewal())
        assert float("-inf") == registries.renewed_s
        registries = registries_of(ScriptedTransport(first=unreachable, second=hung))
        began_s = asyncio.get_running_loop().time()
        assert (None, []) == await registries.ask(renewal())
        assert began_s <= registries.renewed_s <= asyncio.get_running_loop().time()

    asyncio.run(run())

"""Tests of nodes.append_replies."""

import pytest

from common import ids
from common.errors import StoreError
from common.protocol.content import Entry
from common.protocol.messages import Appended, Code
from nodes.append_replies import ahead, by_keys, not_stored, with_expired
from nodes.replication.core.effects import AppendOutcome, FinishAppend

NODE = "n:1"
NOW_MS = ids.now_ms()


@pytest.mark.parametrize(("by_ms", "refused"), [(ids.AHEAD_MS, False), (ids.AHEAD_MS + 1_000, True)])
def test_an_id_from_the_future_is_refused(by_ms: int, refused: bool) -> None:
    """The highest one counts, and the reason names it, the node and the limit."""
    entries = [Entry(ids.last_id(NOW_MS), "now"), Entry(ids.last_id(NOW_MS + by_ms), "later")]
    failure = ahead(entries, NOW_MS, NODE)

    assert refused == (failure is not None)
    if failure:
        assert Code.AHEAD == failure.code
        assert all(part in failure.reason for part in (entries[1].id, NODE, "60 s"))


def test_an_empty_batch_is_not_ahead() -> None:
    """There is no id that could be refused."""
    assert ahead([], NOW_MS, NODE) is None


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (AppendOutcome.STORED, None),
        (AppendOutcome.CONFLICT, None),
        (AppendOutcome.REFUSED, Code.STARTING),
    ],
)
def test_each_outcome_has_its_reply(outcome: AppendOutcome, code: Code | None) -> None:
    """A refusal says that nothing was stored; a conflict is no refusal, because the other messages are stored."""
    failure = not_stored([FinishAppend(1, AppendOutcome.CONFLICT), FinishAppend(1, outcome, reason="why")])

    assert code == (failure.code if failure else None)
    if failure:
        assert "why" == failure.reason


@pytest.mark.parametrize("other", [AppendOutcome.STORED, AppendOutcome.REFUSED, AppendOutcome.CONFLICT])
def test_an_unknown_outcome_is_an_error(other: AppendOutcome) -> None:
    """The messages may be stored, so the client must not be told that they are not."""
    with pytest.raises(StoreError, match="why"):
        not_stored([FinishAppend(1, AppendOutcome.UNKNOWN, reason="why"), FinishAppend(1, other, reason="not this")])


def test_a_batch_that_is_stored_in_part_is_an_error() -> None:
    """A refusal would say that nothing is stored, and the client would send the stored part again under other ids."""
    with pytest.raises(StoreError, match="a part of the batch is stored: why"):
        not_stored([FinishAppend(1, AppendOutcome.STORED), FinishAppend(1, AppendOutcome.REFUSED, reason="why")])


def test_expired_messages_are_named_by_their_places() -> None:
    """The reply about the others is brought into the order of the whole request."""
    entries = [Entry(ids.new_id(), "x", key="k") for _ in range(4)]
    appended = Appended(node=NODE, stored_as=("first", "third"), conflicts=(1,))
    whole = with_expired(appended, entries, [0, 2])

    assert (("first", entries[1].id, "third", entries[3].id), (2,), (1, 3)) == (
        whole.stored_as,
        whole.conflicts,
        whole.expired,
    )
    assert () == with_expired(Appended(node=NODE), entries, [0, 2]).stored_as


def test_each_message_is_stored_under_the_id_of_the_first_one_with_its_key() -> None:
    """The reply is in the order of the request; of each origin it has the last sequence; a conflict is not stored."""
    first, plain, again, other = (Entry(ids.new_id(), "x", key=key) for key in ("a", "", "b", "c"))
    earlier = ids.new_id()
    finishes = [
        FinishAppend(1, AppendOutcome.STORED, first.id, 11, 4),
        FinishAppend(2, AppendOutcome.STORED, earlier, 12, 7),
        FinishAppend(3, AppendOutcome.CONFLICT),
        FinishAppend(4, AppendOutcome.STORED, "", 11, 5),
    ]

    appended, stored = by_keys(NODE, [first, plain, again, other], finishes)

    assert ((first.id, plain.id, earlier, other.id), (3,)) == (appended.stored_as, appended.conflicts)
    assert {11: 5, 12: 7} == dict(appended.vector)
    assert [first, plain, again._replace(id=earlier)] == stored

"""Tests of nodes.append_replies."""

import pytest

from common import ids
from common.errors import StoreError
from common.protocol.content import Entry
from common.protocol.messages import Code
from nodes.append_replies import ahead, by_keys, not_stored
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
    """A refusal of a part refuses the request; a conflict is no refusal, because the other messages are stored."""
    failure = not_stored([FinishAppend(1, AppendOutcome.STORED), FinishAppend(1, outcome, reason="why")])

    assert code == (failure.code if failure else None)
    if failure:
        assert "why" == failure.reason


def test_an_unknown_outcome_is_an_error() -> None:
    """The messages may be stored, so the client must not be told that they are not."""
    with pytest.raises(StoreError, match="why"):
        not_stored([FinishAppend(1, AppendOutcome.REFUSED), FinishAppend(1, AppendOutcome.UNKNOWN, reason="why")])


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

"""Tests of nodes.append_failures."""

import pytest

from common import ids
from common.errors import StoreError
from common.protocol.messages import Code, Entry
from nodes.append_failures import AHEAD_MS, ahead, not_stored
from nodes.replication.core.effects import AppendOutcome, FinishAppend

NODE = "n:1"
NOW_MS = ids.now_ms()


@pytest.mark.parametrize(("by_ms", "refused"), [(AHEAD_MS, False), (AHEAD_MS + 1_000, True)])
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
        (AppendOutcome.CONFLICT, Code.CONFLICT),
        (AppendOutcome.REFUSED, Code.STARTING),
    ],
)
def test_each_outcome_has_its_reply(outcome: AppendOutcome, code: Code | None) -> None:
    """A refusal says that nothing was stored."""
    failure = not_stored(FinishAppend(1, outcome, reason="why"))

    assert code == (failure.code if failure else None)
    if failure:
        assert "why" == failure.reason


def test_an_unknown_outcome_is_an_error() -> None:
    """The messages may be stored, so the client must not be told that they are not."""
    with pytest.raises(StoreError, match="why"):
        not_stored(FinishAppend(1, AppendOutcome.UNKNOWN, reason="why"))

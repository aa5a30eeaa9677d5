"""Tests of common.protocol.vectors: the limits of a version vector in a message."""

import pytest

from common.errors import InvalidMessageError
from common.protocol import codec, messages
from common.protocol.messages import Read
from common.protocol.replication import NO_SET, Join
from common.protocol.vectors import VECTOR_ENTRIES, VectorEntry


def test_a_vector_at_its_limit_fits_a_frame() -> None:
    """A node that was started VECTOR_ENTRIES times can still send its version vector."""
    vector = (VectorEntry(2**63 - 1, 2**63 - 1),) * VECTOR_ENTRIES
    join = Join(node="a:1", incarnation=1, in_sync=NO_SET, vector=vector, wants_records=True, can_serve=True)

    frame = codec.encode(join)
    assert len(frame) < messages.REQUEST_BYTES / 4
    assert (join, None) == codec.decode_request(frame)


@pytest.mark.parametrize(
    "vector",
    [
        (VectorEntry(2**63, 1),),
        (VectorEntry(-1, 1),),
        (VectorEntry(1, -1),),
        ((1,),),
        (VectorEntry(1, 1),) * (VECTOR_ENTRIES + 1),
    ],
    ids=["large incarnation", "negative incarnation", "negative sequence", "no sequence", "too many entries"],
)
def test_a_vector_beyond_its_limits_is_refused(vector: tuple[VectorEntry, ...]) -> None:
    """An incarnation fits SQLite's integers, no number is negative, and the number of entries is limited."""
    frame = codec.encode(Read(after="", limit=1, session=vector))
    with pytest.raises(InvalidMessageError, match=r"Expected|exceeds max_array_len"):
        codec.decode_request(frame)

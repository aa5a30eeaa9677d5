"""Tests of common.protocol.replication: who is a member of an in-sync set, and what fits a frame."""

from common.protocol import codec, messages
from common.protocol.messages import PAGE_MESSAGES
from common.protocol.replication import (
    MEMBERS,
    NO_SET,
    Digested,
    HourDigest,
    Identity,
    InSyncSet,
    Member,
    Renew,
)

LARGEST = 2**63 - 1
LISTED = Member("a:1", incarnation=7, since=1, listed=True)
JOINING = Member("b:1", incarnation=8, since=2, listed=False)
IN_SYNC = InSyncSet(2, (LISTED, JOINING))


def test_a_restarted_node_is_not_the_member_that_it_was() -> None:
    """A member is found by its address and its incarnation, so a node with a new incarnation must join again."""
    assert [LISTED, JOINING] == [IN_SYNC.find(one.identity) for one in IN_SYNC.members]
    assert IN_SYNC.find(Identity("a:1", 9)) is None
    assert IN_SYNC.find(Identity("c:1", 7)) is None
    assert NO_SET.find(LISTED.identity) is None


def test_a_member_that_joins_is_not_listed() -> None:
    """It confirms records, but lookups do not return it, because it may lack earlier ones."""
    assert (LISTED,) == IN_SYNC.listed
    assert () == NO_SET.listed


def test_the_largest_in_sync_set_fits_a_frame() -> None:
    """A set of MEMBERS replicas with the longest addresses and numbers is far below REQUEST_BYTES."""
    member = Member("a" * 64, incarnation=LARGEST, since=LARGEST, listed=True)
    in_sync = InSyncSet(LARGEST, (member,) * MEMBERS)
    renew = Renew(node="a" * 64, incarnation=LARGEST, registry=LARGEST, in_sync=in_sync, ready=True)

    frame = codec.encode(renew)
    assert len(frame) < messages.REQUEST_BYTES / 4
    assert (renew, None) == codec.decode_request(frame)


def test_the_digests_of_a_page_of_hours_fit_a_frame() -> None:
    """A reply with PAGE_MESSAGES hours can be sent, however large their digests are."""
    digested = Digested(hours=(HourDigest(LARGEST, LARGEST, LARGEST),) * PAGE_MESSAGES)

    frame = codec.encode(digested)
    assert len(frame) < messages.REPLY_BYTES / 4
    assert digested == codec.decode_reply(frame)

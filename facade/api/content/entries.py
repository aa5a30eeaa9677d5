"""Gives the drafts of a request their ids, and keeps the idempotency keys of clients apart."""

import hashlib
from collections.abc import Callable, Sequence

from common import ids
from common.errors import RequestError
from common.protocol.content import Entry
from facade.api.content.draft import Draft

DAY_MS = 86_400_000
MARGIN_MS = 60_000  # before the end of retention: a message that old could be removed before it is confirmed


class EntryMaker:
    """Makes messages from drafts.

    Args:
        new_id: makes ids, which sort by the time at which they were made.
        retention_days: days after which nodes remove messages; 0: never.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        new_id: Callable[[], str] = ids.new_id,
        *,
        retention_days: float = 0.0,
        now_ms: Callable[[], int] = ids.now_ms,
    ) -> None:
        self._new_id = new_id
        self._retention_ms = int(retention_days * DAY_MS)
        self._now_ms = now_ms

    def entry(self, draft: Draft, client: str = "", place: int = 0) -> Entry:
        """The message of a draft, with a new id.

        Args:
            draft: the draft.
            client: the name of the client's token; "" without tokens. Keys of two clients are different keys.
            place: the place of the message in its batch, which orders messages of one time.

        Raises:
            RequestError: the time of the draft is in the future, or older than messages are kept.
        """
        if draft.made_ns is None:
            message_id = self._new_id()
        else:
            self._check_time(draft.made_ns // 1_000_000, has_key=bool(draft.key))
            message_id = ids.id_at(draft.made_ns, place)
        return Entry(message_id, draft.msg, draft.fields, scoped_key(draft.key, client))

    def entries(self, drafts: Sequence[Draft | RequestError], client: str) -> list[Entry | RequestError]:
        """The message of each draft of a batch, or the error of a message that is not valid."""
        made: list[Entry | RequestError] = []
        for place, draft in enumerate(drafts):
            try:
                made.append(draft if isinstance(draft, RequestError) else self.entry(draft, client, place))
            except RequestError as error:
                made.append(error)
        return made

    def _check_time(self, made_ms: int, *, has_key: bool) -> None:
        now_ms = self._now_ms()
        if has_key and made_ms < now_ms - DAY_MS + MARGIN_MS:  # a key is remembered for a day from the time of the id
            raise RequestError("a record with an idempotency key must not be older than a day")
        if made_ms > now_ms + ids.AHEAD_MS:
            raise RequestError(f"the time of the record is over {ids.AHEAD_MS // 1_000} s in the future")
        if self._retention_ms and made_ms < now_ms - self._retention_ms + MARGIN_MS:
            raise RequestError(f"the record is older than the {self._retention_ms / DAY_MS:g} days of retention")


def scoped_key(key: str, client: str) -> str:
    """The key under which nodes know a client's key: with a client, a hash of both."""
    return hashlib.sha256(f"{client}\0{key}".encode()).hexdigest() if key and client else key

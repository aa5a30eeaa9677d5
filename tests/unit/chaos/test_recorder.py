"""Tests of tests.chaos.recorder, with a facade that keeps its messages, and with one that forgets them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from tests.chaos.checker import WriteOutcome
from tests.chaos.recorder import PAGE_MESSAGES, LoadProfile, Recorder
from tests.support.waiting import eventually

LOAD = LoadProfile(writers=1, write_every_s=0.02, read_pause_s=0.02, look_pause_s=0.01, curl=False)


def uuid_of(number: int) -> str:
    """The id of a message: its number in six digits, so that ids are in the order of arrival."""
    return f"{number:06}"


class MemoryFacade(BaseHTTPRequestHandler):
    """A facade that keeps texts; the id of each is its number (see `uuid_of`)."""

    protocol_version = "HTTP/1.1"
    texts: list[str]
    forgets: bool

    def do_POST(self) -> None:
        """Store a message."""
        self.texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["msg"])
        self._answer(200, {"status": "success", "uuid": uuid_of(len(self.texts) - 1)})

    def do_GET(self) -> None:
        """Answer with all texts, the newest page of ids, or one text."""
        if self.path == "/facade":
            self._answer(200, {"logs": self.texts})
        elif "?" in self.path:
            numbers = reversed(range(0 if self.forgets else len(self.texts)))
            self._answer(200, {"messages": [{"id": uuid_of(number)} for number in numbers][:PAGE_MESSAGES]})
        elif self.forgets:
            self._answer(404, {"message": "there is no message"})
        else:
            self._answer(200, {"msg": self.texts[int(self.path.rpartition("/")[2])]})

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def facade(*, forgets: bool) -> Iterator[str]:
    """host:port of such a facade."""
    kind = type("Own", (MemoryFacade,), {"texts": [], "forgets": forgets})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_rate_of_a_writer_is_limited() -> None:
    """The time between two posts of a writer is at least `write_every_s`."""
    with facade(forgets=False) as address:
        recorder = Recorder(address, load=LOAD)
        with recorder.running():
            eventually(lambda: len(recorder.writes) > 5)
    began = [write.began_s for write in recorder.writes]

    assert min(after - before for before, after in pairwise(began)) >= LOAD.write_every_s - 0.001
    assert sorted(recorder.acknowledged_s()) == [write.ended_s for write in recorder.writes]
    assert {WriteOutcome.OK} == {write.outcome for write in recorder.writes}


def test_reads_share_the_texts_of_the_writes() -> None:
    """Reads hold the texts that were sent instead of copies, which would be gigabytes in an hour."""
    with facade(forgets=False) as address:
        recorder = Recorder(address, load=LOAD)
        with recorder.running():
            eventually(lambda: len(recorder.reads) > 5 and recorder.reads[-1].texts)
    sent = {id(write.text) for write in recorder.writes}

    assert [] == recorder.errors
    assert [] == [text for read in recorder.reads for text in read.texts if id(text) not in sent]


def statuses(missing: list[str]) -> set[str]:
    """The statuses of the answers that lacked a message of the writer."""
    return {line.split()[-1] for line in (line.partition(" {")[0] for line in missing) if "look for w0-" in line}


@pytest.mark.parametrize("forgets", [False, True])
def test_an_acknowledged_message_that_is_not_shown_is_missing(forgets: bool) -> None:
    """Each acknowledged message is read alone and in the newest page, and recorded as missing if it is not there."""
    with facade(forgets=forgets) as address:
        recorder = Recorder(address, load=LOAD)
        with recorder.running():
            eventually(lambda: len(recorder.pages) > PAGE_MESSAGES or {"404", "200"} <= statuses(recorder.missing))

    assert ({"404", "200"} if forgets else set()) == statuses(recorder.missing)
    assert forgets == (recorder.looks == []) == (recorder.pages == [])
    assert [] == recorder.errors
    assert all(at_s < time.monotonic() for at_s in [*recorder.looks, *recorder.pages])

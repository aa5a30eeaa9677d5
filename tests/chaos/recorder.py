"""Writers and readers that write down what they saw: the history that tests.chaos.checker judges."""

import http.client
import json
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from scripts.client.connection import TIMEOUT_S, HttpClient, HttpReply, client
from tests.chaos.checker import Outcome, Read, Write

CURL_PAUSE_S = 0.2  # between two requests of curl: it is what users have, and a process for each
ERROR_PAUSE_S = 0.05  # after a request that was not answered
PAGE_MESSAGES = 20  # messages in a page
KEPT_CHARACTERS = 500  # that are kept of an answer that was wrong
VOLLEY = 100  # requests at once with one idempotency key
_ERRORS = (OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True, slots=True)
class Load:
    """What a recorder does to its facade.

    Attributes:
        writers: on kept connections.
        write_every_s: from the begin of a writer's post to that of its next one, at least.
        read_pause_s: between two reads of everything; None: there are none.
        look_pause_s: between two reads of the message that was acknowledged last, and, by another reader, of the newest
            page; None: there are none.
        curl: whether curl writes and reads, too.
    """

    writers: int = 4
    write_every_s: float = 0.0
    read_pause_s: float | None = 0.3
    look_pause_s: float | None = 0.02
    curl: bool = True


FULL = Load()
ONE_SLOW_WRITER = Load(
    writers=1, write_every_s=0.02, read_pause_s=None, look_pause_s=None, curl=False
)  # for what it is told, not as load


@dataclass(slots=True)
class Recorder:
    """Writers and readers of a facade, while a block runs.

    Attributes:
        address: host:port of the facade.
        name: begins the name of each writer.
        load: who writes and reads, and how often.
        looks: when (monotonic seconds) an acknowledged message was read alone, and was as it was sent.
        pages: when (monotonic seconds) the newest page was read, and lacked nothing.
        missing: a line for each read of one message, or of the newest page, that did not show an acknowledged message.
        errors: what was answered neither by 200 nor by a whole read.
        marks: when (monotonic seconds) what was done to the cluster.
    """

    address: str
    name: str = "w"
    load: Load = FULL
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    excused: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _texts: dict[str, str] = field(default_factory=dict)  # each text once, or the reads of an hour take gigabytes

    @contextmanager
    def running(self) -> Iterator[None]:
        """Load while the block runs, each writer and reader in its own thread."""
        threads = [threading.Thread(target=work) for work in self._work()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def history(self) -> tuple[list[Write], list[Read]]:
        """What was written and read, without what was excused."""
        if not self.excused:
            return self.writes, self.reads
        reads = [replace(read, texts=[text for text in read.texts if text not in self.excused]) for read in self.reads]
        return [write for write in self.writes if write.text not in self.excused], reads

    def acknowledged_s(self) -> list[float]:
        """When (monotonic seconds) writes were acknowledged, in order."""
        return sorted(write.ended_s for write in self.writes if write.outcome is Outcome.OK)

    def excuse(self, seconds: float) -> None:
        """What was acknowledged in the last seconds may be lost, and is left out of the history."""
        since = time.monotonic() - seconds
        self.excused.update(write.text for write in self.writes if write.ended_s > since)

    def mark(self, what: str) -> None:
        """Something is done to the cluster now."""
        self.marks.append((time.monotonic(), what))

    def post(self, http_client: HttpClient, text: str) -> Write:
        """One post, written down."""
        return self._note_write(http_client.post, text)

    def read(self, http_client: HttpClient) -> None:
        """One read of everything, written down."""
        self._note_read(http_client.read)

    @contextmanager
    def volleys(self) -> Iterator[None]:
        """While the block runs, one message after the other is sent VOLLEY times at once with a key of its own."""
        over = threading.Event()

        def send() -> None:
            with ThreadPoolExecutor(VOLLEY) as threads:
                clients = [HttpClient(self.address) for _ in range(VOLLEY)]
                counter = 0
                while not over.is_set():
                    self._volley(threads, clients, f"k-{counter} payload")
                    counter += 1
                for one in clients:
                    one.close()

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            over.set()
            sender.join()

    def _volley(self, threads: ThreadPoolExecutor, clients: list[HttpClient], text: str) -> None:
        key, began = str(uuid.uuid4()), time.monotonic()

        def post(one: HttpClient) -> tuple[float, Outcome, str]:
            outcome, message_id = self._answered(lambda: one.post(text, key=key), text)
            return time.monotonic(), outcome, message_id

        answers = list(threads.map(post, clients))
        good = [at for at, outcome, _ in answers if outcome is Outcome.OK]
        ids = tuple(sorted({message_id for _, outcome, message_id in answers if outcome is Outcome.OK}))
        if good:
            self.writes.append(Write(text, began, min(good), Outcome.OK, ids))
        else:
            self.writes.append(Write(text, began, time.monotonic(), Outcome.INFO))

    def _work(self) -> Iterator[Callable[[], None]]:
        """What the threads do."""
        for number in range(self.load.writers):
            yield partial(self._write, f"{self.name}{number}")
        if self.load.read_pause_s is not None:
            yield partial(self._read_all, self.load.read_pause_s)
        if self.load.look_pause_s is not None:
            yield partial(self._read_again, self.load.look_pause_s, self._read_message)
            yield partial(self._read_again, self.load.look_pause_s, self._read_page)
        if self.load.curl:
            yield self._curl

    def _write(self, name: str) -> None:
        with client(self.address) as own:
            counter, due = 0, time.monotonic() + self.load.write_every_s
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due = time.monotonic() + self.load.write_every_s  # what an outage delayed is not made up for
                self._note_write(own.post, f"{name}-{counter} payload")
                counter += 1

    def _read_all(self, pause_s: float) -> None:
        with client(self.address) as own:
            while not self._stop.wait(pause_s):
                self._note_read(own.read)

    def _read_again(self, pause_s: float, look: Callable[[HttpClient, Write], None]) -> None:
        with client(self.address) as own:
            while not self._stop.wait(pause_s):
                if newest := next((write for write in reversed(self.writes) if write.outcome is Outcome.OK), None):
                    try:
                        look(own, newest)
                    except (*_ERRORS, KeyError) as error:
                        self.errors.append(f"look for {newest.text}: {error!r}")

    def _read_message(self, http_client: HttpClient, write: Write) -> None:
        """One read of one message: it is there, as it was sent."""
        reply = http_client.call("GET", f"/v1/messages/{write.ids[0]}")
        if reply.status == http.client.OK and reply.document.get("msg") == write.text:
            self.looks.append(time.monotonic())
        else:
            self._note_failed_read(reply, write, missing=reply.status in {http.client.OK, http.client.NOT_FOUND})

    def _read_page(self, http_client: HttpClient, write: Write) -> None:
        """One read of the newest page: a message that was acknowledged before is in it, or older than all of it."""
        reply = http_client.call("GET", f"/v1/messages?order=desc&limit={PAGE_MESSAGES}")
        if reply.status != http.client.OK:
            self._note_failed_read(reply, write, missing=False)
            return
        ids = [entry["id"] for entry in reply.document["messages"]]
        if write.ids[0] in ids or (len(ids) == PAGE_MESSAGES and write.ids[0] < ids[-1]):
            self.pages.append(time.monotonic())
        else:
            self._note_failed_read(reply, write, missing=True)

    def _note_failed_read(self, reply: HttpReply, write: Write, *, missing: bool) -> None:
        found = self.missing if missing else self.errors
        if write.text not in self.excused:
            found.append(f"look for {write.text}: {reply.status} {reply.document}"[:KEPT_CHARACTERS])

    def _curl(self) -> None:
        counter = 0
        while not self._stop.wait(CURL_PAUSE_S):
            self._note_write(self._curl_post, f"curl-{counter} payload")
            if counter % 10 == 0:
                self._note_read(lambda: list(self._curl_request()["logs"]))
            counter += 1

    def _curl_post(self, text: str) -> HttpReply:
        document = self._curl_request(
            "-H", "Content-Type: application/json", "--data-binary", json.dumps({"msg": text})
        )
        return HttpReply(http.client.OK if document["status"] == "success" else 0, {}, document)

    def _curl_request(self, *arguments: str) -> dict[str, Any]:
        command = ["curl", "--silent", "--show-error", "--max-time", str(TIMEOUT_S), *arguments]
        ended = subprocess.run([*command, f"http://{self.address}/facade"], capture_output=True, text=True, check=False)
        if ended.returncode:
            raise OSError(ended.stderr.strip())
        document: dict[str, Any] = json.loads(ended.stdout)
        return document

    def _note_write(self, post: Callable[[str], HttpReply], text: str) -> Write:
        self._texts[text] = text
        began = time.monotonic()
        outcome, message_id = self._answered(lambda: post(text), text)
        written = Write(text, began, time.monotonic(), outcome, (message_id,) if message_id else ())
        self.writes.append(written)
        return written

    def _note_read(self, read: Callable[[], list[str]]) -> None:
        began = time.monotonic()
        try:
            texts = read()
        except (*_ERRORS, KeyError) as error:
            self.errors.append(f"read: {error!r}")
        else:
            ended = time.monotonic()
            self.reads.append(Read([self._texts.setdefault(text, text) for text in texts], began, ended))

    def _answered(self, send: Callable[[], HttpReply], text: str) -> tuple[Outcome, str]:
        """How a post ended, and the uuid that its answer named, if any."""
        try:
            reply = send()
        except _ERRORS as error:
            self.errors.append(f"{text}: {error!r}")
            self._stop.wait(ERROR_PAUSE_S)
            return (Outcome.FAIL if isinstance(error, ConnectionRefusedError) else Outcome.INFO), ""
        if reply.status == http.client.OK:
            return Outcome.OK, str(reply.document["uuid"])
        self.errors.append(f"{text}: {reply.status} {reply.document}")
        return (Outcome.INFO if "uuid" in reply.document else Outcome.FAIL), ""

"""Writers and readers that load a facade and record what they saw: the history that tests.chaos.checker checks."""

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

from scripts.client.connection import CLIENT_ERRORS, TIMEOUT_S, HttpClient, HttpReply, NotConnectedError, client
from tests.chaos.checker import FullRead, Write, WriteOutcome

CURL_PAUSE_S = 0.2  # between two requests of curl, which is what users run; each request starts a process
ERROR_PAUSE_S = 0.05  # after a request without an answer
PAGE_MESSAGES = 20  # messages in the newest page
KEPT_CHARACTERS = 500  # of a wrong answer, so that the list of errors stays small
VOLLEY = 100  # concurrent requests with one idempotency key


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """The load that a recorder puts on its facade.

    Attributes:
        writers: how many writers post, each on its own persistent connection.
        write_every_s: the least time from the start of a writer's post to the start of its next one.
        read_pause_s: between two reads of the whole log; None for no such reads.
        look_pause_s: between two reads of the message that was acknowledged last and, by a second reader, of the newest
            page; None for no such reads.
        curl: whether curl also writes and reads.
    """

    writers: int = 4
    write_every_s: float = 0.0
    read_pause_s: float | None = 0.3
    look_pause_s: float | None = 0.02
    curl: bool = True


FULL = LoadProfile()
ONE_SLOW_WRITER = LoadProfile(
    writers=1, write_every_s=0.02, read_pause_s=None, look_pause_s=None, curl=False
)  # probes how a facade answers without loading it


@dataclass(slots=True)
class Recorder:
    """Loads one facade with writers and readers, and records their history.

    Attributes:
        address: host:port of the facade.
        name: the prefix of the name of each writer.
        load: how many write and read, and how often.
        writes, reads: the history so far.
        looks: when (monotonic seconds) a read of one acknowledged message returned the text that was sent.
        pages: when (monotonic seconds) a read of the newest page showed the last acknowledged message.
        missing: one line for each read of one message, or of the newest page, that lacked an acknowledged message.
        errors: one line for each request that failed: no answer, an error status, or an incomplete read.
        marks: (monotonic seconds, what was done to the cluster).
        excused: texts that are left out of the history; see `excuse`.
    """

    address: str
    name: str = "w"
    load: LoadProfile = FULL
    writes: list[Write] = field(default_factory=list)
    reads: list[FullRead] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    excused: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _texts: dict[str, str] = field(default_factory=dict)  # one copy of each text: an hour of reads would take GB

    @contextmanager
    def running(self) -> Iterator[None]:
        """Load the facade while the block runs, with each writer and reader in its own thread."""
        threads = [threading.Thread(target=work) for work in self._work()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def history(self) -> tuple[list[Write], list[FullRead]]:
        """All writes and reads, without the excused texts."""
        if not self.excused:
            return self.writes, self.reads
        reads = [replace(read, texts=[text for text in read.texts if text not in self.excused]) for read in self.reads]
        return [write for write in self.writes if write.text not in self.excused], reads

    def acknowledged_s(self) -> list[float]:
        """When (monotonic seconds) writes were acknowledged, in ascending order."""
        return sorted(write.ended_s for write in self.writes if write.outcome is WriteOutcome.OK)

    def excuse(self, seconds: float) -> None:
        """Leave writes that ended in the last `seconds` out of the history, because the next fault may lose them."""
        since = time.monotonic() - seconds
        self.excused.update(write.text for write in self.writes if write.ended_s > since)

    def mark(self, what: str) -> None:
        """Record that something is done to the cluster now."""
        self.marks.append((time.monotonic(), what))

    def post(self, http_client: HttpClient, text: str) -> Write:
        """Post a message and record how that ended."""
        return self._note_write(http_client.post, text)

    def read(self, http_client: HttpClient) -> None:
        """Read the whole log and record the result."""
        self._note_read(http_client.read)

    @contextmanager
    def volleys(self) -> Iterator[None]:
        """While the block runs, send message after message, each VOLLEY times at once with its own idempotency key."""
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
        """Send one message on all connections at once, and record it as one write."""
        key, began = str(uuid.uuid4()), time.monotonic()

        def post(one: HttpClient) -> tuple[float, WriteOutcome, str]:
            outcome, message_id = self._answered(lambda: one.post(text, key=key), text)
            return time.monotonic(), outcome, message_id

        answers = list(threads.map(post, clients))
        good = [at for at, outcome, _ in answers if outcome is WriteOutcome.OK]
        ids = tuple(sorted({message_id for _, outcome, message_id in answers if outcome is WriteOutcome.OK}))
        if good:
            self.writes.append(Write(text, began, min(good), WriteOutcome.OK, ids))
        else:
            self.writes.append(Write(text, began, time.monotonic(), WriteOutcome.INFO))

    def _work(self) -> Iterator[Callable[[], None]]:
        """The functions that the threads run, by the load profile."""
        for number in range(self.load.writers):
            yield partial(self._write, f"{self.name}{number}")
        if self.load.read_pause_s is not None:
            yield partial(self._read_all, self.load.read_pause_s)
        if self.load.look_pause_s is not None:
            yield partial(self._probe_newest, self.load.look_pause_s, self._read_message)
            yield partial(self._probe_newest, self.load.look_pause_s, self._read_page)
        if self.load.curl:
            yield self._curl

    def _write(self, name: str) -> None:
        with client(self.address) as http_client:
            counter, due = 0, time.monotonic() + self.load.write_every_s
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due = time.monotonic() + self.load.write_every_s  # posts that an outage delayed are not made up for
                self._note_write(http_client.post, f"{name}-{counter} payload")
                counter += 1

    def _read_all(self, pause_s: float) -> None:
        with client(self.address) as http_client:
            while not self._stop.wait(pause_s):
                self._note_read(http_client.read)

    def _probe_newest(self, pause_s: float, look: Callable[[HttpClient, Write], None]) -> None:
        """Call `look` with the newest acknowledged write, again and again."""
        with client(self.address) as http_client:
            while not self._stop.wait(pause_s):
                if newest := next((write for write in reversed(self.writes) if write.outcome is WriteOutcome.OK), None):
                    try:
                        look(http_client, newest)
                    except (*CLIENT_ERRORS, KeyError) as error:
                        self.errors.append(f"look for {newest.text}: {error!r}")

    def _read_message(self, http_client: HttpClient, write: Write) -> None:
        """Read one acknowledged message: it must have the text that was sent."""
        reply = http_client.call("GET", f"/v1/messages/{write.ids[0]}")
        if reply.status == http.client.OK and reply.document.get("msg") == write.text:
            self.looks.append(time.monotonic())
        else:
            self._note_failed_read(reply, write, missing=reply.status in {http.client.OK, http.client.NOT_FOUND})

    def _read_page(self, http_client: HttpClient, write: Write) -> None:
        """Read the newest page: an acknowledged message is in it, or the page is full of newer messages."""
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
        """Record that a read did not show a message (`missing`), or failed, unless the message is excused."""
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
        except (*CLIENT_ERRORS, KeyError) as error:
            self.errors.append(f"read: {error!r}")
        else:
            ended = time.monotonic()
            self.reads.append(FullRead([self._texts.setdefault(text, text) for text in texts], began, ended))

    def _answered(self, send: Callable[[], HttpReply], text: str) -> tuple[WriteOutcome, str]:
        """Send a post; return its outcome, and the uuid of an acknowledgement or ""."""
        try:
            reply = send()
        except CLIENT_ERRORS as error:
            self.errors.append(f"{text}: {error!r}")
            self._stop.wait(ERROR_PAUSE_S)
            return (WriteOutcome.FAIL if isinstance(error, NotConnectedError) else WriteOutcome.INFO), ""
        if reply.status == http.client.OK:
            return WriteOutcome.OK, str(reply.document["uuid"])
        self.errors.append(f"{text}: {reply.status} {reply.document}")
        return (WriteOutcome.INFO if "uuid" in reply.document else WriteOutcome.FAIL), ""

"""Tests of scripts.cli, and of the streams of a facade, on real clusters."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import psutil

from common import ids
from scripts.client.writers import Writers
from scripts.launcher import processes
from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from tests.support.clusters import quiet
from tests.support.waiting import eventually

NOWHERE = "00000000-0000-0000-0000-000000000000"


def command(cluster: Cluster, *arguments: str) -> list[str]:
    """The command line of the client, with the URL of the facade unless one is given first."""
    given = [] if "--url" in arguments[:1] else ["--url", url(cluster)]
    return [sys.executable, "-m", "scripts.cli", *given, *arguments]


def url(cluster: Cluster) -> str:
    """The URL of the facade."""
    return f"http://{cluster.settings.facade.address}"


def run(cluster: Cluster, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the client until it ends."""
    return subprocess.run(
        command(cluster, *arguments), cwd=ROOT, input=stdin, capture_output=True, text=True, check=False, timeout=60
    )


def objects(printed: str) -> list[dict[str, Any]]:
    """The JSON objects in the lines of an output."""
    return [json.loads(line) for line in printed.splitlines()]


@contextmanager
def following(cluster: Cluster, *arguments: str) -> Iterator[list[str]]:
    """The messages that `tail -f` prints while the block runs."""
    with subprocess.Popen(
        [*command(cluster, "-o", "ndjson", "tail", "-f", *arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        found: list[str] = []
        assert process.stdout
        reader = threading.Thread(target=_collect, args=[process.stdout, found])
        reader.start()
        try:
            yield found
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert 0 == process.wait(10.0)
            finally:
                process.kill()  # SIGINT is ignored in a background job of a shell
                reader.join(10.0)


def _has_all(found: list[str], texts: list[str]) -> bool:
    return set(texts) <= set(found)


def _collect(lines: Iterable[str], found: list[str]) -> None:
    found.extend(json.loads(line)["msg"] for line in lines)


def test_sent_messages_are_read_in_every_format(cluster: Cluster) -> None:
    """Messages are sent as arguments and as lines, and found again by their ids."""
    since = ids.time_text(ids.new_id())
    sent = run(cluster, "send", "one", "two words")
    lines = run(cluster, "-o", "ndjson", "send", stdin="three\n\nfour\r\nfive")
    printed = run(cluster, "read", "--from", since)
    document = run(cluster, "-o", "json", "read", "--from", since, "--order", "desc", "--limit", "2")
    everything = run(cluster, "-o", "ndjson", "read", "--from", since, "--all")
    newest = run(cluster, "-o", "ndjson", "tail", "-n", "2")
    found = run(cluster, "-o", "json", "get", sent.stdout.split()[0])

    for ended in (sent, lines, printed, document, everything, newest, found):
        assert (0, "") == (ended.returncode, ended.stderr)
    texts = ["one", "two words", "three", "four", "five"]
    assert texts == [line.partition("  ")[2] for line in printed.stdout.splitlines()]
    assert ["five", "four"] == [one["msg"] for one in json.loads(document.stdout)]
    assert texts == [one["msg"] for one in objects(everything.stdout)]
    assert [*sent.stdout.split(), *(one["id"] for one in objects(lines.stdout))] == [
        one["id"] for one in objects(everything.stdout)
    ]
    assert ["four", "five"] == [one["msg"] for one in objects(newest.stdout)]
    assert [objects(everything.stdout)[0]] == json.loads(found.stdout)


def test_many_lines_are_sent_in_batches(cluster: Cluster) -> None:
    """More lines than fit into one request are stored in their order."""
    since = ids.time_text(ids.new_id())
    sent = run(cluster, "send", stdin="".join(f"line {number}\n" for number in range(2_500)))
    read = run(cluster, "-o", "ndjson", "read", "--all", "--from", since)

    assert 2_500 == len(sent.stdout.split())
    assert [f"line {number}" for number in range(2_500)] == [one["msg"] for one in objects(read.stdout)]


def test_each_failure_is_one_sentence_and_an_exit_code(cluster: Cluster) -> None:
    """The code is 1 for a command that failed, and 2 for one with wrong options."""
    for arguments, code, reason in (
        (["get", NOWHERE], 1, f"threefold: 404: there is no message {NOWHERE}\n"),
        (["read", "--after", "x"], 1, "threefold: 400: after must be the id of a message"),
        (["read", "--all", "--from", "x"], 1, "400: from must be a time as RFC 3339 has it"),
        (["send", "good", "x" * 70_000], 1, "threefold: 1 of 2 messages were not stored"),
        (["read", "--order", "up"], 2, "Invalid value for '--order'"),
        (["--url", "ftp://x", "status"], 1, "threefold: --url must be http://HOST:PORT or https://HOST:PORT"),
        (["--url", "http://x:99999", "status"], 1, "threefold: --url must be http://HOST:PORT or https://HOST:PORT"),
        (["--url", "http://127.0.0.1:9", "status"], 1, "threefold: 127.0.0.1:9: "),
    ):
        ended = run(cluster, *arguments)
        assert code == ended.returncode, ended
        assert reason in ended.stderr
        assert "Traceback" not in ended.stderr


def test_status_and_top_show_the_cluster(cluster: Cluster) -> None:
    """They have a row for each node, and JSON has the same content."""
    status = run(cluster, "status")
    document = json.loads(run(cluster, "-o", "json", "status").stdout)
    top = run(cluster, "top", "--seconds", "1.5")
    numbers = objects(run(cluster, "-o", "ndjson", "top", "--seconds", "0.2").stdout)

    assert [0, 0] == [status.returncode, top.returncode]
    assert "safe: any two nodes may die" == status.stdout.splitlines()[0]
    assert [*cluster.settings.service_ips.logging_service] == [node["address"] for node in document["logging_nodes"]]
    assert {"ready": 3} == {"ready": sum(node["state"] == "ready" for node in document["logging_nodes"])}
    assert "address\tstate\trate" in top.stdout
    assert all(node["rate"] >= 0 for node in numbers[0]["logging_nodes"])


def test_bench_counts_the_stored_messages(cluster: Cluster) -> None:
    """It sends single messages or batches, and reports the number and the latency."""
    for batch in (1, 50):
        found = json.loads(
            run(cluster, "-o", "json", "bench", "--seconds", "0.5", "--clients", "2", "--batch", str(batch)).stdout
        )
        assert 0 == found["errors"]
        assert found["messages"] > 0
        assert 0 == found["messages"] % batch
        assert 0 < found["p50 ms"] <= found["p99 ms"]


def test_following_survives_the_death_of_two_nodes(restored_cluster: Cluster) -> None:
    """Each follower gets every acknowledged message once, and `status` says that the cluster is not safe."""
    with (
        following(restored_cluster, "-n", "0") as one,
        following(restored_cluster, "-n", "0") as two,
        Writers(restored_cluster.settings.facade.address, 3, "w") as writers,
    ):
        eventually(lambda: one and two)
        begin = len(writers.acknowledged)
        writers.wait_for(200, timeout_s=20.0)
        restored_cluster.kill([1, 2])
        writers.wait_for(200, timeout_s=20.0)
        writers.stop()
        sent = [text for _, text in writers.acknowledged]
        for found in (one, two):
            with suppress(AssertionError):
                eventually(partial(_has_all, found, sent[begin:]))
            assert set() == set(sent[begin:]) - set(found)
            # after the death of a node a stream also sends messages of the 20 s before it (docs/http.md)
            own = [text for text in found if text.startswith("w-")]
            assert len(own) == len(set(own))
            assert set(own) <= set(sent)
    status = run(restored_cluster, "status")

    assert [] == writers.failures
    assert 3 == status.returncode
    assert status.stdout.startswith("NOT SAFE: ")
    assert " are down" in status.stdout


def test_following_continues_after_a_restart_of_the_facade(restored_cluster: Cluster) -> None:
    """A stopping facade ends its streams, and the client resumes where the stream ended."""
    facade = next(status for status in restored_cluster.status() if status.part.name == "facade")
    with following(restored_cluster, "-n", "0") as found:

        def first() -> bool:
            run(restored_cluster, "send", "first")
            return bool(found)

        eventually(first)
        began = time.monotonic()
        processes.end([psutil.Process(facade.pid)], psutil.Process.terminate)
        assert time.monotonic() - began < 5.0
        restored_cluster.up(quiet)
        assert 0 == run(restored_cluster, "send", "second").returncode
        eventually(lambda: "second" in found)
        assert 1 == found.count("second")


def test_send_waits_for_a_facade_that_restarts(restored_cluster: Cluster) -> None:
    """Each line is stored once, although the facade is away at first."""
    facade = next(status for status in restored_cluster.status() if status.part.name == "facade")
    processes.end([psutil.Process(facade.pid)], psutil.Process.kill)
    sending = command(
        restored_cluster, "--url", "http://127.0.0.1:9", "--url", url(restored_cluster), "send", "--retry", "60s"
    )
    with subprocess.Popen(sending, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        process.stdin.write("waited one\nwaited two\n")
        process.stdin.close()
        restored_cluster.up(quiet)
        assert 0 == process.wait(60.0)
        assert process.stdout
        stored = process.stdout.read().split()
    newest = objects(run(restored_cluster, "-o", "ndjson", "tail", "-n", "2").stdout)

    assert stored == [one["id"] for one in newest]
    assert ["waited one", "waited two"] == [one["msg"] for one in newest]


def test_the_number_of_streams_is_limited(cluster: Cluster) -> None:
    """One stream more is refused, requests are answered beside the streams, and a client that leaves frees a slot."""
    limit = cluster.settings.facade.streams
    arguments = ["curl", "-sN", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Accept: text/event-stream"]

    def follow() -> subprocess.Popen[bytes]:
        return subprocess.Popen([*arguments, f"{url(cluster)}/v1/messages"], stdout=subprocess.PIPE)

    open_streams = [follow() for _ in range(limit + 3)]
    try:
        eventually(lambda: sum(stream.poll() is not None for stream in open_streams) == 3)
        refused = [stream for stream in open_streams if stream.poll() is not None]
        open_streams = [stream for stream in open_streams if stream.poll() is None]
        assert [b"503"] * 3 == [stream.communicate()[0] for stream in refused]
        assert 0 == run(cluster, "send", "beside them").returncode
        open_streams[0].kill()
        open_streams.pop(0).communicate()

        def again() -> bool:
            stream = follow()
            open_streams.append(stream)
            with suppress(subprocess.TimeoutExpired):
                stream.wait(0.5)
            return stream.poll() is None

        eventually(again)
    finally:
        for stream in open_streams:
            stream.kill()
            stream.wait()
            if stream.stdout:
                stream.stdout.close()

"""Tests of the shell scripts without a cluster: real shells, files and environments."""

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import VERSION
from scripts.launcher.processes import ROOT
from tests.support.servers import Serve, respond

THREEFOLD = ROOT / "scripts" / "threefold"
MESSAGE = {"id": "01a20c21-40b9-743e-8cff-65c316df4a96", "time": "2026-11-24T08:00:00.000Z"}


class Store:
    """A WSGI application that stores what is posted as NDJSON, and answers a GET with one message.

    Attributes:
        texts: the texts that were posted.
        text: the text of the message.
    """

    def __init__(self, text: str = "hello") -> None:
        self.texts: list[str] = []
        self.text = text

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer a request."""
        if environ["REQUEST_METHOD"] == "POST":
            lines = environ["wsgi.input"].read().splitlines()
            self.texts += [json.loads(line)["msg"] for line in lines]
            document: dict[str, Any] = {"results": [MESSAGE] * len(lines)}
        else:
            document = {"messages": [MESSAGE | {"msg": self.text}], "next": None}
        return respond(start_response, "200 OK", json.dumps(document).encode())


def shell(command: str, address: str, *, stdin: bytes = b"", cwd: Path = ROOT) -> subprocess.CompletedProcess[bytes]:
    """Run a command in sh, with the client as `$threefold` and the facade in FACADE_URL."""
    return subprocess.run(
        ["sh", "-c", command],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=cwd,
        env=os.environ | {"threefold": str(THREEFOLD), "FACADE_URL": f"http://{address}"},
    )


def test_a_script_without_a_virtual_environment_names_the_command_for_it(tmp_path: Path) -> None:
    """In a new clone the error names the command that installs the project."""
    (tmp_path / "scripts").mkdir()
    for name in ("env.sh", "launch.sh"):
        (tmp_path / "scripts" / name).write_bytes((ROOT / "scripts" / name).read_bytes())
    (tmp_path / "scripts" / "launch.sh").chmod(0o755)
    ended = subprocess.run(
        [tmp_path / "scripts" / "launch.sh"], capture_output=True, text=True, check=False, timeout=10
    )

    assert 1 == ended.returncode
    assert "there is no" in ended.stderr
    assert "run `make install` first" in ended.stderr


def test_the_client_works_through_a_symbolic_link_and_in_a_folder_with_code(serve: Serve, tmp_path: Path) -> None:
    """Code in the caller's folder is not run, whatever it is called."""
    address = serve(Store())
    (tmp_path / "link").symlink_to(THREEFOLD)
    (tmp_path / "second").symlink_to("link")
    for name in ("scripts", "common", "click"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open('ran-{name}', 'w')")
    ended = shell("./second read", address, cwd=tmp_path)

    assert (0, b"") == (ended.returncode, ended.stderr)
    assert ended.stdout.endswith(b"hello\n")
    assert [] == list(tmp_path.glob("ran-*"))


def test_the_shell_scripts_work_through_a_symbolic_link(tmp_path: Path) -> None:
    """The folder of the link is not taken for that of the project."""
    (tmp_path / "stop").symlink_to(ROOT / "scripts" / "test_shut_down.sh")
    ended = shell("CDPATH=/usr:/etc ./stop 3", "", cwd=tmp_path)

    assert (2, b"") == (ended.returncode, ended.stdout)
    assert ended.stderr.startswith(b"usage: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYTHONPATH", "/nowhere"),
        ("PYTHONHOME", "/nowhere"),
        ("PYTHONIOENCODING", "ascii"),
        ("PYTHONOPTIMIZE", "2"),
        ("http_proxy", "http://127.0.0.1:9"),
        ("LC_ALL", "C"),
        ("LANG", "de_DE.ISO-8859-1"),
        ("CDPATH", "/usr"),
        ("COLUMNS", "3"),
        ("POSIXLY_CORRECT", "1"),
    ],
)
def test_the_environment_changes_nothing(serve: Serve, name: str, value: str) -> None:
    """Variables for Python, proxies, locales and shells are those of other programs."""
    ended = shell(f'{name}="{value}" "$threefold" read', serve(Store("é")))

    assert (0, b"") == (ended.returncode, ended.stderr)
    assert ended.stdout.decode().endswith("é\n")


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ('"$threefold" read <&-', 0, b""),
        ('"$threefold" send text <&-', 0, b""),
        ('"$threefold" send <&-', 0, b""),
        ('"$threefold" read 2>&-', 0, b""),
        ('"$threefold" read <&- 2>&-', 0, b""),
        ('"$threefold" read >&-', 0, b""),
        ('"$threefold" read >/dev/full', 1, b"threefold: the output cannot be written: No space left on device\n"),
        ('"$threefold" -o json read >/dev/full', 1, b"the output cannot be written"),
        ('"$threefold" --help >/dev/full', 1, b"the output cannot be written"),
        ('"$threefold" read | :', 0, b""),
    ],
)
def test_closed_streams_and_full_disks_are_one_sentence(serve: Serve, command: str, code: int, reason: bytes) -> None:
    """Nothing leaves a traceback, and a closed stream is like /dev/null."""
    ended = shell(command, serve(Store()))

    assert code == ended.returncode
    assert reason in ended.stderr
    assert b"Traceback" not in ended.stderr
    assert b"Exception ignored" not in ended.stderr


def test_lines_that_cannot_be_messages_are_named_and_the_others_are_stored(serve: Serve) -> None:
    """A line of 11 MiB, and one that is not UTF-8, do not cost the lines around them."""
    store = Store()
    lines = [b"first", b"x" * 11 * 1_048_576, b"caf\xe9", "café\r".encode(), b"  ", b"last"]
    ended = shell('"$threefold" send', serve(store), stdin=b"\n".join(lines))

    assert ["first", "café", "last"] == store.texts
    assert 1 == ended.returncode
    assert 3 == len(ended.stdout.splitlines())
    assert b"message 2 is not stored: the line has 262144 bytes or more" in ended.stderr
    assert b"message 3 is not stored: the line is not valid UTF-8" in ended.stderr
    assert ended.stderr.endswith(b"threefold: 2 of 5 messages were not stored\n")


def test_many_large_lines_are_sent_in_parts(serve: Serve) -> None:
    """A request stays below the limit of a facade."""
    store = Store()
    ended = shell('"$threefold" send', serve(store), stdin=(b"\x01" * 65_536 + b"\n") * 40)

    assert (0, 40) == (ended.returncode, len(store.texts))


def test_an_argument_that_is_not_utf_8_is_refused(serve: Serve) -> None:
    """It is named like a line."""
    store = Store()
    ended = shell("""\"$threefold\" send good "$(printf 'caf\\351')" """.replace('\\"', '"'), serve(store))

    assert (1, ["good"]) == (ended.returncode, store.texts)
    assert b"message 2 is not stored: the line is not valid UTF-8" in ended.stderr


EVIL = "red \x1b[31m title \x1b]0;owned\x07 clear \x1b[2J c1 \x9b31m tab\tline\nend\r\x7f"


def test_terminal_commands_in_messages_are_shown_and_not_carried_out(serve: Serve) -> None:
    """On a terminal they are escaped; in a pipe the text is as it was stored."""
    address = serve(Store(EVIL))
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        environ = os.environ | {"FACADE_URL": f"http://{address}", "NO_COLOR": "1", "TERM": "dumb"}
        subprocess.run([THREEFOLD, "read"], stdout=theirs, env=environ, check=True, timeout=60)
        os.close(theirs)
        printed = b""
        while part := _read(terminal):
            printed += part
    piped = shell('"$threefold" read', address)

    shown = printed.decode().partition("Z")[2].replace("\x1b[0m", "")
    assert "\\x1b[31m title \\x1b]0;owned\\x07 clear \\x1b[2J c1 \\x9b31m tab\tline" in shown
    assert not {"\x1b", "\x07", "\x9b", "\x7f"} & set(shown)
    assert piped.stdout.decode().endswith(f"  {EVIL}\n")


def _read(terminal: Any) -> bytes:
    try:
        return bytes(terminal.read(4_096))
    except OSError:  # the other side is closed
        return b""


@pytest.mark.parametrize("command", ["-o ndjson read", "read -o ndjson", "-o table read -o ndjson"])
def test_the_format_may_follow_the_command(serve: Serve, command: str) -> None:
    """The option after the command wins."""
    ended = shell(f'"$threefold" {command}', serve(Store()))

    assert MESSAGE | {"msg": "hello"} == json.loads(ended.stdout)


def test_the_version_is_printed() -> None:
    """As by every program of its kind."""
    assert f"threefold {VERSION}\n".encode() == shell('"$threefold" --version', "").stdout

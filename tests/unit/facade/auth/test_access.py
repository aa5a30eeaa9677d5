"""Tests of facade.auth.access, facade.auth.tokens and scripts.tokens: who may do what, and how often."""

import contextlib
import http.client
import os
import stat
import threading
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from structlog.typing import EventDict

from common.errors import ConfigError, FatalError, ForbiddenError, RateError, UnauthenticatedError
from facade.api.openapi.operations import OPERATIONS
from facade.auth.access import Access
from facade.auth.tokens import CHECK_INTERVAL_S, Scope, Token, Tokens, digest_of
from scripts import tokens
from scripts.launcher.ports import write_config
from tests.support.clusters import running_cluster
from tests.support.facade import World

SECRETS = {"reader": Scope.READ, "writer": Scope.WRITE, "boss": Scope.ADMIN}  # the name is the token, too


class Clock:
    """A time that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now_s


@pytest.fixture
def world() -> World:
    """A whole system in memory."""
    return World()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A token for each scope."""
    made = tmp_path / "tokens.toml"
    tokens.write(made, [Token(name, (scope,), digest_of(name)) for name, scope in SECRETS.items()])
    return made


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/messages", {"reader", "boss"}),
        ("HEAD", "/facade", {"reader", "boss"}),
        ("GET", "/v1/messages/{message_id}", {"reader", "boss"}),
        ("POST", "/facade", {"writer", "boss"}),
        ("POST", "/v1/messages", {"writer", "boss"}),
        ("GET", "/v1/cluster", {"boss"}),
        ("GET", "/metrics", {"boss"}),
        ("GET", "/v1/history", {"boss"}),
        ("GET", "/readyz?verbose", {"boss"}),
        ("GET", "/readyz", {*SECRETS, None}),
        ("GET", "/livez", {*SECRETS, None}),
        ("GET", "/", {*SECRETS, None}),
    ],
)
def test_a_token_allows_what_its_scope_says(file: Path, method: str, path: str, allowed: set[str | None]) -> None:
    """Each path has a scope; who has no token gets only what is open, and is told so in another way."""
    access = Access(Tokens(file))

    def may(name: str | None) -> bool:
        try:
            access.check(method, path, f"Bearer {name}" if name else None, "127.0.0.1")
        except ForbiddenError:
            assert name
            return False
        except UnauthenticatedError:
            assert name is None
            return False
        return True

    assert allowed == {name for name in (*SECRETS, None) if may(name)}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic boss", "boss", "Bearer no", "Bearer \udcff"])
def test_what_is_no_known_token_is_refused(file: Path, header: str | None) -> None:
    """Whatever stands in the header."""
    with pytest.raises(UnauthenticatedError):
        Access(Tokens(file)).check("GET", "/facade", header, "127.0.0.1")


def test_without_tokens_everybody_may_everything() -> None:
    """As before there were any."""
    for path, operations in OPERATIONS.items():
        for method in operations:
            Access().check(method.upper(), path, None, "127.0.0.1")


def test_a_file_that_is_written_anew_keeps_its_owner(tmp_path: Path) -> None:
    """Else a facade with a user of its own could not read what root changed, and would keep the tokens before."""
    file, owner = tmp_path / "tokens.toml", 1_234 if os.geteuid() == 0 else os.geteuid()
    tokens.write(file, [])
    os.chown(file, owner, -1)
    tokens.write(file, [Token("new", (Scope.READ,), digest_of("new"))])

    assert (owner, 0o600) == (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode))


def test_tokens_change_while_the_facade_runs(file: Path, logged: list[EventDict]) -> None:
    """A new one is known within a second, one that is removed is not; a broken file changes nothing and is told."""
    clock = Clock()
    known = Tokens(file, clock=clock)
    tokens.write(file, [Token("new", (Scope.READ,), digest_of("new"))])
    assert known.find("new") is None
    clock.now_s += CHECK_INTERVAL_S
    assert ("new", None) == (getattr(known.find("new"), "name", None), known.find("boss"))

    file.write_text("nonsense")
    clock.now_s += CHECK_INTERVAL_S
    assert known.find("new") is not None
    file.unlink()
    clock.now_s += CHECK_INTERVAL_S
    assert known.find("new") is not None
    assert ["tokens changed"] + 2 * ["tokens not reloaded, the previous ones stay in use"] == [
        line["event"] for line in logged
    ]


def test_an_answer_that_goes_on_ends_when_its_token_is_removed(file: Path) -> None:
    """Or allows it no more; without tokens it goes on."""
    clock = Clock()
    access = Access(Tokens(file, clock=clock))
    following = partial(access.is_allowed, "GET", "/v1/messages")
    assert following("Bearer reader")
    assert following("Bearer boss")
    tokens.write(file, [Token("reader", (Scope.WRITE,), digest_of("reader"))])
    clock.now_s += CHECK_INTERVAL_S

    assert not following("Bearer reader")
    assert not following("Bearer boss")
    assert Access().is_allowed("GET", "/v1/messages", None)


def test_a_real_stream_ends_when_its_token_is_removed(file: Path, tmp_path: Path) -> None:
    """It is ended as any answer is, and who comes back is not let in."""
    headers = {"Accept": "text/event-stream", "Authorization": "Bearer reader"}
    with (
        running_cluster(tmp_path, engine="embedded", more='[security]\ntokens = "tokens.toml"\n') as cluster,
        contextlib.closing(http.client.HTTPConnection(cluster.settings.facade.address, timeout=10.0)) as connection,
    ):
        connection.request("GET", "/v1/messages", headers=headers)
        stream = connection.getresponse()
        assert (200, b"retry: 1000\n") == (stream.status, stream.readline())
        tokens.write(file, [])
        assert b"data" not in stream.read()
        connection.request("GET", "/v1/messages", headers=headers)
        assert 401 == connection.getresponse().status


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"nonsense", "is no file of tokens"),
        (b'[[token]]\nname = "a"\nscopes = []\nsha256 = "%s"' % (b"0" * 64), "is no file of tokens"),
        (b'[[token]]\nname = "a"\nscopes = ["root"]\nsha256 = "%s"' % (b"0" * 64), "root"),
        (b'[[token]]\nname = "a"\nscopes = ["read"]\nsha256 = "secret"', "sha256"),
        (2 * b'[[token]]\nname = "a"\nscopes = ["read"]\nsha256 = "%s"\n' % (b"0" * 64, b"1" * 64), "one name"),
        (b"\xff", "UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_facade_does_not_start_with_a_wrong_file(tmp_path: Path, content: bytes | None, says: str) -> None:
    """The sentence says what is wrong with it."""
    file = tmp_path / "tokens.toml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=says):
        Tokens(file)


def test_each_client_has_a_rate_of_its_own(file: Path) -> None:
    """By its token or its address; health is not counted."""
    by_address, by_token = Access(None, "2/hour"), Access(Tokens(file), "2/hour")
    for access, header in ((by_address, None), (by_token, "Bearer boss")):
        for _ in range(2):
            access.check("POST", "/facade", header, "10.0.0.1")
        with pytest.raises(RateError) as refused:
            access.check("POST", "/facade", header, "10.0.0.1")
        assert 1 <= refused.value.retry_after_s <= 3_600
        access.check("GET", "/livez", header, "10.0.0.1")
    by_address.check("POST", "/facade", None, "10.0.0.2")
    by_token.check("POST", "/facade", "Bearer writer", "10.0.0.1")


def test_who_waits_as_long_as_told_may_go_on() -> None:
    """Really waited for, a second."""
    access = Access(None, "1/second")
    access.check("POST", "/facade", None, "10.0.0.1")
    with pytest.raises(RateError) as refused:
        access.check("POST", "/facade", None, "10.0.0.1")
    threading.Event().wait(refused.value.retry_after_s)
    access.check("POST", "/facade", None, "10.0.0.1")


@pytest.mark.parametrize(
    ("header", "refusal"), [("Bearer no", UnauthenticatedError), ("Bearer reader", ForbiddenError)]
)
def test_what_is_refused_is_counted(file: Path, header: str, refusal: type[Exception]) -> None:
    """So tokens cannot be tried without end; who has one is not kept out by who tries at the same address."""
    access = Access(Tokens(file), "2/hour")
    for expected in (refusal, refusal, RateError):
        with pytest.raises(expected):
            access.check("POST", "/facade", header, "10.0.0.1")
    access.check("POST", "/facade", "Bearer writer", "10.0.0.1")


@pytest.mark.parametrize(
    ("header", "status", "says"),
    [
        (None, 401, 'Bearer realm="threefold"'),
        ("Bearer reader", 403, 'Bearer realm="threefold", error="insufficient_scope"'),
    ],
)
def test_a_refusal_says_how_to_come_in(world: World, file: Path, header: str | None, status: int, says: str) -> None:
    """RFC 6750; nothing is stored, and the token is not repeated."""
    http = world.http(access=Access(Tokens(file)))
    answered = http.simulate_post("/facade", json={"msg": "a"}, headers={"Authorization": header} if header else {})

    assert (status, says) == (answered.status_code, answered.headers["www-authenticate"])
    assert {"status": "failure"}.items() <= answered.json.items()
    assert [] == world.asked()
    assert header is None or "Bearer" not in answered.json["message"]


def test_over_its_rate_a_client_is_told_when_to_come_again(world: World) -> None:
    """429 with the seconds."""
    http = world.http(access=Access(None, "1/minute"))
    assert 200 == http.simulate_post("/facade", json={"msg": "a"}).status_code
    answered = http.simulate_post("/facade", json={"msg": "a"})

    assert 429 == answered.status_code
    assert 1 <= int(answered.headers["retry-after"]) <= 60
    assert "1 per 1 minute" in answered.json["message"]


def run(*arguments: str, config: Path) -> tuple[int, str]:
    """Exit code and output of a command of scripts.tokens."""
    result = CliRunner().invoke(tokens.main, [*arguments, "--config", str(config)])
    return (1, str(result.exception)) if isinstance(result.exception, FatalError) else (result.exit_code, result.stdout)


def test_the_command_adds_lists_and_removes(tmp_path: Path) -> None:
    """The token is shown once; the file has its hash, for its owner alone."""
    config, file = tmp_path / "config.toml", tmp_path / "tokens.toml"
    write_config(config)
    code, secret = run("add", "ci", "--scope", "read", "--scope", "write", config=config)

    assert 0 == code
    assert 0o600 == file.stat().st_mode & 0o777
    assert secret.strip() not in file.read_text()
    found = Tokens(file).find(secret.strip())
    assert ("ci", (Scope.READ, Scope.WRITE)) == (getattr(found, "name", ""), getattr(found, "scopes", ()))
    assert "read, write" in run("list", config=config)[1]
    assert "has a token ci already" in run("add", "ci", "--scope", "read", config=config)[1]
    assert 0 == run("remove", "ci", config=config)[0]
    assert "has no token ci" in run("remove", "ci", config=config)[1]
    assert Tokens(file).find(secret.strip()) is None


def test_a_name_that_the_file_cannot_have_is_told(tmp_path: Path) -> None:
    """Nothing is written then."""
    config = tmp_path / "config.toml"
    write_config(config)

    assert "is no file of tokens" in run("add", 'a"b', "--scope", "read", config=config)[1]
    assert not (tmp_path / "tokens.toml").exists()

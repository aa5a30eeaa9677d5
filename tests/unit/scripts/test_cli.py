"""Tests of the options of scripts.cli; tests/cluster/interface/test_cli.py runs it on a cluster."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from click.testing import CliRunner, Result

from scripts import cli
from scripts.client.facades import ApiError
from tests.support.servers import Serve, respond

TOKEN = "one"  # noqa: S105 - no secret, but the text that the facade is to receive
SAFE = {"safe": True, "reason": "all is well", "logging_nodes": []}


class Facade:
    """A WSGI application that answers every request with one document.

    Attributes:
        asked: the path, query and bearer token of each request.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._body = json.dumps(document).encode()
        self.asked: list[tuple[str, dict[str, str], str]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer a request."""
        query = dict(parse_qsl(environ["QUERY_STRING"]))
        self.asked.append((environ["PATH_INFO"], query, environ.get("HTTP_AUTHORIZATION", "")))
        return respond(start_response, "200 OK", self._body)


def run(*arguments: str, url: str | None = None, token: str | None = None) -> Result:
    """Run the command line with these arguments, and with a URL and a token in the environment."""
    return CliRunner().invoke(cli.main, arguments, env={"FACADE_URL": url, "FACADE_TOKEN": token})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-o", "xml", "status"), "'-o' / '--output'"),
        (("read", "--limit", "0"), "'--limit'"),
        (("read", "--limit", "1001"), "'--limit'"),
        (("read", "--order", "up"), "'--order'"),
        (("tail", "-n", "1001"), "'-n'"),
        (("top", "--seconds", "0"), "'--seconds'"),
        (("bench", "--clients", "129"), "'--clients'"),
        (("get",), "'ID'"),
    ],
)
def test_a_wrong_option_is_named(arguments: tuple[str, ...], named: str) -> None:
    """The exit code is 2, and no facade is asked."""
    ended = run("--url", "http://127.0.0.1:9", *arguments)

    assert (2, True) == (ended.exit_code, named in ended.output), ended.output


@pytest.mark.parametrize("url", ["ftp://x:1", "http://x:99999", "http://x:1/other"])
def test_a_wrong_url_is_an_error_that_repeats_it(url: str) -> None:
    """Only http://HOST:PORT names a facade."""
    ended = run("--url", url, "status")

    assert isinstance(ended.exception, ApiError)
    assert f"--url must be http://HOST:PORT or https://HOST:PORT, not {url}" == str(ended.exception)


def test_the_options_of_read_are_the_query(serve: Serve) -> None:
    """Options that are not given are left out, so that the facade applies its defaults."""
    facade = Facade({"messages": [], "next": None})
    url = f"http://{serve(facade)}"
    run("--url", url, "read")
    run("--url", url, "read", "--limit", "5", "--from", "t1", "--to", "t2", "--after", "x", "--order", "desc")
    run("--url", url, "read", "--contains", "disk", "--field", "level=error", "--field", "a.b=x=y")

    assert [
        {"limit": "100", "order": "asc"},
        {"limit": "5", "from": "t1", "to": "t2", "after": "x", "order": "desc"},
        {"limit": "100", "order": "asc", "contains": "disk", "field.level": "error", "field.a.b": "x=y"},
    ] == [query for _, query, _ in facade.asked]


def test_url_and_token_may_be_in_the_environment(serve: Serve) -> None:
    """An option takes precedence over its variable."""
    facade = Facade(SAFE)
    url = f"http://{serve(facade)}"
    run("status", url=url, token=TOKEN)
    run("--url", url, "--token", "another", "status", url="http://127.0.0.1:9", token=TOKEN)

    assert [("/v1/cluster", {}, f"Bearer {TOKEN}"), ("/v1/cluster", {}, "Bearer another")] == facade.asked


@pytest.mark.parametrize(("safe", "code"), [(True, 0), (False, 3)])
def test_the_exit_code_of_status_says_whether_the_cluster_is_safe(serve: Serve, *, safe: bool, code: int) -> None:
    """The document is printed in either case."""
    document = SAFE | {"safe": safe}
    ended = run("--url", f"http://{serve(Facade(document))}", "-o", "json", "status")

    assert (code, document) == (ended.exit_code, json.loads(ended.stdout))

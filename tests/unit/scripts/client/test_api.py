"""Tests of scripts.client.api."""

from collections.abc import Callable
from typing import Any

import pytest

from common.errors import FatalError
from scripts.client.api import Api
from scripts.client.facades import ApiError
from tests.support.servers import Application, Serve, respond

NOWHERE = "00000000-0000-0000-0000-000000000000"


def test_following_ends_with_an_error_when_the_facade_stays_away() -> None:
    """After several attempts the reason of the last one is raised."""
    with pytest.raises(ApiError, match=r"127\.0\.0\.1:9: .*refused"):
        next(Api("127.0.0.1:9", pause_s=0.0).follow(NOWHERE))
    assert issubclass(ApiError, FatalError)


def answering(status: str, body: bytes) -> Application:
    """A facade, or a proxy in front of it, that answers everything with one body."""

    def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        return respond(start_response, status, body)

    return application


@pytest.mark.parametrize("body", [b"<html>502</html>", b"[]", b""])
@pytest.mark.parametrize(
    "use",
    [
        lambda api: api.page({"limit": "10"}),
        lambda api: list(api.everything({})),
        lambda api: next(api.follow(NOWHERE)),
        lambda api: api.cluster(),
    ],
    ids=["page", "everything", "follow", "cluster"],
)
def test_an_answer_of_a_proxy_is_an_error_of_one_sentence(
    serve: Serve, use: Callable[[Api], object], body: bytes
) -> None:
    """The facade answers with JSON objects, but a proxy in front of it may answer with anything."""
    api = Api(f"http://{serve(answering('502 Bad Gateway', body))}", pause_s=0.0)

    with pytest.raises(ApiError, match="the reply is not a JSON object"):
        use(api)
    api.close()


def test_a_token_with_a_line_break_is_an_error_of_one_sentence() -> None:
    """No header can have it, so the request is not sent."""
    with pytest.raises(ApiError, match="Invalid header value"):
        list(Api("http://127.0.0.1:9", "a\nb").everything({}))

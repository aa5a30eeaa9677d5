"""Tests of facade.auth.origins: pages of other sites."""

import pytest

from common.errors import CrossSiteError, MisdirectedError
from facade.auth.origins import Origins, host_name
from tests.support.facade import MemorySystem

LOCAL = "localhost:5000"
OTHER = "https://attacker.example"
HOME = Origins(("192.0.2.7", "logs.example"), allowed=("https://app.example",))


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Localhost:5000", "localhost"),
        ("localhost.", "localhost"),
        ("[::1]:5000", "::1"),
        ("[::1]", "::1"),
        ("logs.example", "logs.example"),
        ("logs.example:", "logs.example"),
        ("a:b", "a:b"),
        ("", ""),
    ],
)
def test_a_host_is_compared_without_port_case_and_final_dot(host: str, name: str) -> None:
    """A header that is no host stays as it is, and is therefore unknown."""
    assert name == host_name(host)


@pytest.mark.parametrize(
    "host",
    [None, LOCAL, "app.localhost", "127.0.0.1:5000", "127.9.9.9", "[::1]:80", "192.0.2.7:5000", "LOGS.example:80"],
)
def test_known_hosts_are_answered(host: str | None) -> None:
    """Loopback names, the bound address and configured names are known; HTTP/1.0 may have no host."""
    HOME.check("GET", host, None, None)


@pytest.mark.parametrize(
    "host",
    ["attacker.example", "localhost.attacker.example", "127.0.0.1.attacker.example", "192.0.2.8", "a:b", "", "127.1"],
)
def test_other_hosts_are_refused(host: str) -> None:
    """A page of another site that gave its name the address of this facade reads nothing."""
    with pytest.raises(MisdirectedError, match=r"add its name to `\[facade\] hosts`"):
        HOME.check("GET", host, None, None)


def test_a_facade_at_all_addresses_answers_for_any_address_but_no_name() -> None:
    """DNS rebinding needs a name."""
    everywhere = Origins((), any_address=True)
    everywhere.check("GET", "198.51.100.1:5000", None, None)
    with pytest.raises(MisdirectedError):
        everywhere.check("GET", "attacker.example", None, None)


@pytest.mark.parametrize("origins", [Origins(None), Origins(("*",))])
def test_every_host_can_be_allowed(origins: Origins) -> None:
    """With tokens, or with `*`."""
    origins.check("GET", "attacker.example", None, None)


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (None, None),
        (f"http://{LOCAL}", None),
        (f"http://{LOCAL}", "same-origin"),
        ("https://public.example", "same-origin"),
        (None, "none"),
        ("https://app.example", "cross-site"),
        ("https://APP.example", None),
    ],
)
def test_requests_of_this_site_and_of_other_programs_are_taken(origin: str | None, site: str | None) -> None:
    """Curl sends neither header; behind a proxy the browser still says same-origin; allowed origins are taken."""
    HOME.check("POST", LOCAL, origin, site)


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (OTHER, "cross-site"),
        (OTHER, "same-site"),
        (OTHER, None),
        (None, "cross-site"),
        ("null", None),
        ("http://localhost:5001", None),
        ("http://[", None),
        ("https://app.example.attacker.example", "cross-site"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_pages_of_other_sites_change_nothing(method: str, origin: str | None, site: str | None) -> None:
    """Whatever changes something is refused; reading is refused by the browser itself."""
    HOME.check("GET", LOCAL, origin, site)
    with pytest.raises(CrossSiteError, match="cors_origins"):
        HOME.check(method, LOCAL, origin, site)


def test_a_page_of_another_site_stores_nothing(system: MemorySystem) -> None:
    """The request that a browser sends without asking is 403; nothing reaches a node."""
    http = system.http(origins=HOME)
    headers = {"Host": LOCAL, "Origin": OTHER, "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}
    refused = http.simulate_post("/v1/messages", body="x", headers=headers)

    assert (403, "urn:problem-type:threefold:cross-site") == (refused.status_code, refused.json["type"])
    assert "www-authenticate" not in refused.headers
    assert 421 == http.simulate_get("/v1/messages", headers={"Host": "attacker.example"}).status_code
    assert [] == system.attempts()


def test_a_page_of_an_allowed_site_may_read_and_write(system: MemorySystem) -> None:
    """Its browser asks first, and every answer, also an error, lets the page read it."""
    http = system.http(origins=HOME)
    headers = {"Host": LOCAL, "Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    asked = http.simulate_options("/v1/messages", headers=headers | {"Access-Control-Request-Method": "POST"})
    posted = http.simulate_post("/v1/messages", json={"msg": "a"}, headers=headers)
    wrong = http.simulate_post("/v1/messages", json={"msg": 5}, headers=headers)
    other = http.simulate_get("/v1/messages", headers={"Host": LOCAL, "Origin": OTHER})

    assert 204 == asked.status_code
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "Idempotency-Key" in asked.headers["access-control-allow-headers"]
    assert [201, 400] == [posted.status_code, wrong.status_code]
    misled = http.simulate_get("/v1/messages", headers=headers | {"Host": "attacker.example"})
    assert 421 == misled.status_code
    for response in (asked, posted, wrong, misled):
        assert "https://app.example" == response.headers["access-control-allow-origin"]
    for response in (asked, posted, wrong, misled, other):
        assert "Origin" in response.headers["vary"]  # a shared cache keeps the answers of origins apart
    assert "access-control-allow-origin" not in other.headers

"""Tests of the page at `/` in a real Chromium, on real clusters."""

import gzip
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from facade.api.openapi.operations import OPERATIONS
from facade.auth.tokens import Scope, Token, digest_of
from scripts import tokens
from scripts.launcher.cluster import Cluster
from tests.support.clusters import running_cluster

CHROMIUM = "chromium"  # that of Debian
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
WEIGHT_BYTES = 60_000  # most for all files of the page, compressed
AMBER_S = 4.0  # most from the death of a node to the amber banner, beside other tests; 1.1 s in docs/measurements.md
WELL = "3/3 nodes, 3/3 in sync, safe any two nodes may die"  # the banner

pytestmark = pytest.mark.needs(CHROMIUM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window, for all tests of this file."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(CHROMIUM), args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab without cookies and storage of other tests."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def strict_page(page: Page) -> Iterator[Page]:
    """A tab in which no script may fail, and nothing may break the content security policy."""
    wrong: list[str] = []
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    assert [] == wrong


def url(cluster: Cluster, path: str = "/") -> str:
    """A URL of the facade."""
    return f"http://{cluster.settings.facade.address}{path}"


def opened(page: Page, cluster: Cluster) -> Page:
    """The page once it shows the state of the cluster."""
    page.goto(url(cluster))
    expect(page.locator(".banner.good")).to_contain_text(WELL, timeout=10_000)
    return page


def test_the_page_shows_the_cluster_and_loads_from_the_facade_alone(strict_page: Page, cluster: Cluster) -> None:
    """All sections and all nodes are shown, and the files of the page are small and come from the facade."""
    asked: list[str] = []
    strict_page.on("request", lambda request: asked.append(request.url))
    opened(strict_page, cluster)

    headings = strict_page.locator("h2").all_text_contents()
    order = ["Logging nodes", "Hazelcast members", "The last five minutes", "Messages live", "What happened"]
    assert [*order, "Send a message", "Other processes"] == headings
    for address in (*cluster.settings.service_ips.logging_service, *cluster.settings.hazelcast.clients):
        expect(strict_page.get_by_role("rowheader", name=address)).to_be_visible()
    expect(strict_page.get_by_text(re.compile(r"^3 of 3, term \d+$"))).to_have_count(3)
    assert 2 == strict_page.locator("figure canvas").count()
    assert {cluster.settings.facade.address} == {urlsplit(one).netloc for one in asked if not one.startswith("data:")}
    loaded = {one for one in asked if one == url(cluster) or "/assets/" in one}
    assert {url(cluster), url(cluster, "/assets/app.js"), url(cluster, "/assets/preact.module.js")} <= loaded
    assert sum(map(transfer_bytes, loaded)) <= WEIGHT_BYTES


def transfer_bytes(address: str) -> int:
    """The bytes of a file as it is sent to a browser, compressed."""
    asked = urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        body: bytes = answer.read()
        assert "gzip" == answer.headers["Content-Encoding"]
    assert gzip.decompress(body)
    return len(body)


def test_a_sent_message_is_shown_as_text_with_its_node(strict_page: Page, cluster: Cluster) -> None:
    """It can be sent by keyboard alone, a script in it does not run, and the curl line and the filter work."""
    opened(strict_page, cluster)
    text = "it's <script>document.title='owned'</script> & more"
    strict_page.get_by_label("Message", exact=True).focus()
    strict_page.keyboard.type(text)
    expect(strict_page.locator("pre code")).to_have_text(
        f"curl -X POST {url(cluster, '/v1/messages')} -H 'Content-Type: application/json' "
        "-d '{\"msg\":\"it'\\''s <script>document.title='\\''owned'\\''</script> & more\"}'"
    )
    strict_page.keyboard.press("Enter")

    expect(strict_page.get_by_text("stored as ")).to_be_visible()
    line = strict_page.locator(".tail li", has_text=text)
    expect(line).to_have_count(1)
    assert line.locator(".node").text_content() in cluster.settings.service_ips.logging_service
    assert "Threefold" == strict_page.title()
    strict_page.get_by_label("Filter").fill("owned")
    expect(line).to_have_count(1)
    strict_page.get_by_label("Filter").fill("no message has this")
    expect(line).to_have_count(0)


def violations(page: Page) -> list[str]:
    """What is serious or worse among that which axe finds."""
    found = Axe().run(page).response["violations"]
    return [one["id"] for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1_280])
def test_the_page_is_accessible_and_fits(browser: Browser, cluster: Cluster, scheme: Any, width: int) -> None:
    """In light and dark, on a phone and on a screen, axe finds nothing serious, and nothing overflows."""
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}) as context:
        page = opened(context.new_page(), cluster)

        assert [] == violations(page)
        assert width == page.evaluate("document.documentElement.scrollWidth")


def test_the_banner_is_amber_while_a_node_is_down(strict_page: Page, restored_cluster: Cluster) -> None:
    """It changes soon after a death, is green after the return, and the timeline has the events."""
    opened(strict_page, restored_cluster)
    began = time.monotonic()
    restored_cluster.kill([2])
    expect(strict_page.locator(".banner.warn")).to_contain_text("2/3 nodes", timeout=10_000)
    took_s = time.monotonic() - began

    assert took_s < AMBER_S
    address = restored_cluster.settings.service_ips.logging_service[1]
    expect(strict_page.locator(".banner.warn")).to_contain_text(f"not safe {address} is down")
    expect(strict_page.locator(".events")).to_contain_text(f"node {address} does not answer")
    expect(strict_page.locator(".events")).to_contain_text(
        f"replica {address} is not in the in-sync set", timeout=10_000
    )
    expect(strict_page.locator(".events")).to_contain_text("left; members now: 2", timeout=10_000)
    restored_cluster.start([2], lambda _line: None)
    expect(strict_page.locator(".banner.good")).to_contain_text(WELL, timeout=10_000)
    expect(strict_page.locator(".events")).to_contain_text(f"node {address} is ready")
    expect(strict_page.locator(".events")).to_contain_text(f"replica {address} is in sync")
    assert [] == violations(strict_page)  # with events, too


def test_the_page_says_that_the_facade_does_not_answer(page: Page, embedded_cluster: Cluster) -> None:
    """When the facade is gone, the banner is not green any more."""
    page.goto(url(embedded_cluster))
    expect(page.locator(".banner.good")).to_contain_text(WELL, timeout=10_000)
    embedded_cluster.down()

    expect(page.locator(".banner.bad")).to_contain_text("this facade does not answer", timeout=10_000)


def test_the_page_of_the_api_shows_every_operation(strict_page: Page, cluster: Cluster) -> None:
    """It is generated from the OpenAPI description, loads our own files, and sends requests."""
    strict_page.goto(url(cluster, "/api"))
    expect(strict_page.locator(".opblock")).to_have_count(sum(map(len, OPERATIONS.values())), timeout=20_000)
    strict_page.get_by_role("button", name="GET /livez", exact=False).first.click()
    strict_page.get_by_role("button", name="Try it out").click()
    strict_page.get_by_role("button", name="Execute").click()

    expect(strict_page.locator(".live-responses-table .response .response-col_status").first).to_contain_text("200")


def test_the_page_asks_for_a_token(page: Page, tmp_path: Path) -> None:
    """Where tokens are required it shows nothing without one, and uses the one that an operator enters."""
    tokens.write(tmp_path / "tokens.toml", [Token("boss", (Scope.ADMIN,), digest_of("open sesame"))])
    with running_cluster(tmp_path, engine="embedded", more='[security]\ntokens = "tokens.toml"\n') as cluster:
        page.goto(url(cluster))
        expect(page.locator(".banner.bad")).to_contain_text("a token is needed")
        assert 0 == page.locator("table").count()

        page.get_by_label("Token").fill("open sesame")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".banner")).to_contain_text("3/3 nodes, 3/3 in sync", timeout=10_000)
        expect(page.locator("h2", has_text="Messages")).to_contain_text("live")
        page.get_by_label("Message", exact=True).fill("with a token")
        page.keyboard.press("Enter")
        expect(page.locator(".tail")).to_contain_text("with a token")
        expect(page.locator("pre")).to_contain_text("Authorization: Bearer")


def test_the_page_warns_of_a_facade_that_is_open_to_everybody(strict_page: Page, tmp_path: Path) -> None:
    """A facade that listens at all addresses without tokens is named in a notice."""
    with running_cluster(tmp_path, engine="embedded", everywhere=True) as cluster:
        strict_page.goto(url(cluster).replace("0.0.0.0", "127.0.0.1"))
        expect(strict_page.locator(".notice")).to_contain_text("everybody who reaches 0.0.0.0")

"""Tests of the page at `/` in a real Chromium, on real clusters."""

import gzip
import hashlib
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from facade.api.openapi.operations import OPERATIONS
from facade.api.page import files as pages
from facade.auth.tokens import Scope, Token, digest_of
from scripts import tokens
from scripts.launcher.cluster import Cluster
from tests.support.clusters import running_cluster

CHROMIUM = Path("/usr/bin/chromium")
WEIGHT_BYTES = 60_000  # of all that the page loads, compressed
AMBER_S = 2.0  # from the death of a node
WELL = "3/3 nodes, 3/3 in sync, safe any two nodes may die"  # the banner
VENDOR = pages.FOLDER / "vendor"


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """Debian's Chromium; without it these tests skip on a person's machine and fail on CI."""
    if not CHROMIUM.exists() and not os.environ.get("CI"):
        pytest.skip(f"no browser at {CHROMIUM}")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
    return {"executable_path": str(CHROMIUM), "args": quiet}


@pytest.fixture
def quiet_page(page: Page) -> Iterator[Page]:
    """A tab in which nothing may go wrong: no error of a script, nothing that the policy of the page forbids."""
    wrong: list[str] = []
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    assert [] == wrong


def url(cluster: Cluster, path: str = "/") -> str:
    """That of its facade."""
    return f"http://{cluster.settings.facade.address}{path}"


def opened(page: Page, cluster: Cluster) -> Page:
    """The page, when it has heard of the cluster."""
    page.goto(url(cluster))
    expect(page.locator(".banner.good")).to_contain_text(WELL, timeout=10_000)
    return page


def test_the_page_shows_the_whole_and_asks_no_other_host(quiet_page: Page, cluster: Cluster) -> None:
    """All that an operator wants to know is there; what it loads is small, and from the facade alone."""
    asked: list[str] = []
    quiet_page.on("request", lambda request: asked.append(request.url))
    opened(quiet_page, cluster)

    headings = quiet_page.locator("h2").all_text_contents()
    order = ["Logging nodes", "Hazelcast members", "The last five minutes", "Messages live", "What happened"]
    assert [*order, "Send a message", "Other processes"] == headings
    for address in (*cluster.settings.service_ips.logging_service, *cluster.settings.hazelcast.clients):
        expect(quiet_page.get_by_role("rowheader", name=address)).to_be_visible()
    expect(quiet_page.get_by_text(re.compile(r"^3 of 3, term \d+$"))).to_have_count(3)
    assert 2 == quiet_page.locator("figure canvas").count()
    assert {cluster.settings.facade.address} == {urlsplit(one).netloc for one in asked if not one.startswith("data:")}
    loaded = {one for one in asked if one == url(cluster) or "/assets/" in one}
    assert {url(cluster), url(cluster, "/assets/app.js"), url(cluster, "/assets/preact.module.js")} <= loaded
    assert sum(map(weight, loaded)) <= WEIGHT_BYTES


def weight(address: str) -> int:
    """Bytes of a file as it is sent to a browser, which is compressed."""
    asked = urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        body: bytes = answer.read()
        assert "gzip" == answer.headers["Content-Encoding"]
    assert gzip.decompress(body)
    return len(body)


def test_a_message_is_sent_and_seen_as_text_with_its_node(quiet_page: Page, cluster: Cluster) -> None:
    """Also by keyboard alone; a script in it does not run; the curl line sends the same; the filter finds it."""
    opened(quiet_page, cluster)
    text = "it's <script>document.title='owned'</script> & more"
    quiet_page.get_by_label("Message", exact=True).focus()
    quiet_page.keyboard.type(text)
    expect(quiet_page.locator("pre code")).to_have_text(
        f"curl -X POST {url(cluster, '/v1/messages')} -H 'Content-Type: application/json' "
        "-d '{\"msg\":\"it'\\''s <script>document.title='\\''owned'\\''</script> & more\"}'"
    )
    quiet_page.keyboard.press("Enter")

    expect(quiet_page.get_by_text("stored as ")).to_be_visible()
    line = quiet_page.locator(".tail li", has_text=text)
    expect(line).to_have_count(1)
    assert line.locator(".node").text_content() in cluster.settings.service_ips.logging_service
    assert "Threefold" == quiet_page.title()
    quiet_page.get_by_label("Filter").fill("owned")
    expect(line).to_have_count(1)
    quiet_page.get_by_label("Filter").fill("no message has this")
    expect(line).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1_280])
def test_the_page_is_accessible_and_fits(browser: Browser, cluster: Cluster, scheme: Any, width: int) -> None:
    """In the light and in the dark, on a phone and on a screen: nothing serious for axe, nothing beside the edge."""
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}) as context:
        page = opened(context.new_page(), cluster)
        expect(page.locator(".events li").first).to_be_visible()
        found = Axe().run(page).response["violations"]

        assert [] == [one["id"] for one in found if one["impact"] in ("serious", "critical")]
        assert width == page.evaluate("document.documentElement.scrollWidth")


def test_a_death_turns_it_amber_and_a_return_green(quiet_page: Page, own_cluster: Cluster) -> None:
    """Within two seconds the banner says so, in words and in colour; the timeline tells what happened."""
    opened(quiet_page, own_cluster)
    began = time.monotonic()
    own_cluster.kill([2])
    expect(quiet_page.locator(".banner.warn")).to_contain_text("2/3 nodes", timeout=10_000)
    took_s = time.monotonic() - began

    assert took_s < AMBER_S
    address = own_cluster.settings.service_ips.logging_service[1]
    expect(quiet_page.locator(".banner.warn")).to_contain_text(f"not safe {address} is down")
    expect(quiet_page.locator(".events")).to_contain_text(f"node {address} does not answer")
    expect(quiet_page.locator(".events")).to_contain_text(
        f"replica {address} is not in the in-sync set", timeout=10_000
    )
    expect(quiet_page.locator(".events")).to_contain_text("left; members now: 2", timeout=10_000)
    own_cluster.start([2], lambda _line: None)
    expect(quiet_page.locator(".banner.good")).to_contain_text(WELL, timeout=10_000)
    expect(quiet_page.locator(".events")).to_contain_text(f"node {address} is ready")
    expect(quiet_page.locator(".events")).to_contain_text(f"replica {address} is in sync")


def test_a_silent_facade_is_told(page: Page, embedded_cluster: Cluster) -> None:
    """When the facade dies the page does not go on showing green."""
    page.goto(url(embedded_cluster))
    expect(page.locator(".banner.good")).to_contain_text(WELL, timeout=10_000)
    embedded_cluster.down()

    expect(page.locator(".banner.bad")).to_contain_text("this facade does not answer", timeout=10_000)


def test_the_page_of_the_api_shows_every_operation(quiet_page: Page, cluster: Cluster) -> None:
    """It is made of the description, by files of ours, and sends what one tries."""
    quiet_page.goto(url(cluster, "/api"))
    expect(quiet_page.locator(".opblock")).to_have_count(sum(map(len, OPERATIONS.values())), timeout=20_000)
    quiet_page.get_by_role("button", name="GET /livez", exact=False).first.click()
    quiet_page.get_by_role("button", name="Try it out").click()
    quiet_page.get_by_role("button", name="Execute").click()

    expect(quiet_page.locator(".live-responses-table .response .response-col_status").first).to_contain_text("200")


def test_files_of_others_are_those_that_are_named() -> None:
    """Each vendored file has its package, version, licence and hash in the table beside it."""
    row = r"^\| (\S+) \| \S+ [\d.]+ \| \[\S+\]\((\S+)\) \| (\w{64}) \|$"
    rows = re.findall(row, (VENDOR / "README.md").read_text(), re.MULTILINE)
    files = {file.name for file in VENDOR.iterdir() if file.suffix in (".js", ".css")}

    assert files == {name for name, *_ in rows}
    for name, licence, digest in rows:
        assert digest == hashlib.sha256((VENDOR / name).read_bytes()).hexdigest(), name
        assert (VENDOR / licence).exists()


def test_the_page_asks_for_a_token(page: Page, tmp_path: Path) -> None:
    """Where tokens are needed it shows nothing without one; with one of an operator it shows all, and it sends it."""
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


def test_the_page_tells_what_is_open(quiet_page: Page, tmp_path: Path) -> None:
    """A facade that listens everywhere without tokens says so in a line."""
    with running_cluster(tmp_path, engine="embedded", everywhere=True) as cluster:
        quiet_page.goto(url(cluster).replace("0.0.0.0", "127.0.0.1"))
        expect(quiet_page.locator(".notice")).to_contain_text("everybody who reaches 0.0.0.0")

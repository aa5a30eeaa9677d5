"""Tests of the page at `/` in a real Chromium, on real clusters."""

import gzip
import json
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

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

    expect(strict_page.locator("section.log > h2")).to_have_text("Messages live")
    headings = strict_page.locator("section > h2").all_text_contents()
    order = ["Messages live", "Logging nodes", "Hazelcast members", "The last five minutes", "What happened"]
    assert [*order, "Send a message", "Other processes"] == headings
    for address in (*cluster.settings.service_ips.logging_service, *cluster.settings.hazelcast.clients):
        expect(strict_page.get_by_role("rowheader", name=address)).to_be_visible()
    expect(strict_page.get_by_text(re.compile(r"^3 of 3, term \d+$"))).to_have_count(3)
    in_sync = f"In sync: {', '.join(cluster.settings.service_ips.logging_service)}."
    expect(strict_page.locator("p.set")).to_contain_text(in_sync)
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
    """It can be sent by keyboard alone, a script in it does not run, and the curl line is right."""
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


def post(cluster: Cluster, *messages: dict[str, Any], query: str = "") -> list[str]:
    """Store a batch; returns the ids."""
    body = json.dumps(messages).encode()
    asked = urllib.request.Request(url(cluster, f"/v1/messages{query}"), body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return [result["id"] for result in json.load(answer)["results"]]


def get(cluster: Cluster, message_id: str) -> dict[str, Any]:
    """A stored message."""
    with urllib.request.urlopen(url(cluster, f"/v1/messages/{message_id}"), timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def at(cluster: Cluster, **place: str) -> str:
    """The URL of the page at a place of the log."""
    return url(cluster, f"/?{urlencode(place)}")


def texts(page: Page) -> list[str]:
    """The texts of the messages that are shown."""
    return page.locator(".tail .text").all_text_contents()


def state(page: Page) -> Locator:
    """The badge that says whether the log is live."""
    return page.locator("section.log h2 .badge")


def line_of(page: Page, text: str) -> Locator:
    """The line of a message, which can be opened."""
    return page.locator(".line", has_text=text)


def test_an_old_message_has_its_node(strict_page: Page, cluster: Cluster) -> None:
    """The node is that which accepted the message, though nobody followed the log then."""
    [old] = post(cluster, {"msg": "from before the page"})
    opened(strict_page, cluster)

    expect(line_of(strict_page, "from before the page").locator(".node")).to_have_text(get(cluster, old)["node"])


def test_a_search_is_for_history_and_for_new_messages(strict_page: Page, cluster: Cluster) -> None:
    """Text and fields as the facade takes them; the URL has the search, so that another tab shows the same."""
    here, elsewhere = {"level": "error", "host": "web 1"}, {"level": "error", "host": "web 2"}
    post(cluster, {"msg": "disk full", "fields": here}, {"msg": "disk full too", "fields": elsewhere})
    opened(strict_page, cluster)
    box = strict_page.get_by_role("searchbox")
    box.fill('disk full level=ERROR host="web 1"')
    box.press("Enter")
    expect(strict_page.locator(".tail .text")).to_have_text(["disk full"])
    expect(state(strict_page)).to_have_text("live")
    post(cluster, {"msg": "disk full again", "fields": elsewhere}, {"msg": "disk fuller", "fields": here})

    expect(strict_page.locator(".tail .text")).to_have_text(["disk fuller", "disk full"])
    expect(strict_page.get_by_text("2 messages: the text contains “disk full”, level is “ERROR”")).to_be_visible()
    strict_page.goto(strict_page.url)
    expect(strict_page.locator(".tail .text")).to_have_text(["disk fuller", "disk full"])
    expect(box).to_have_value('disk full level=ERROR host="web 1"')
    box.fill("")
    expect(line_of(strict_page, "disk full again")).to_be_visible()


def test_an_invalid_search_shows_the_sentence_of_the_facade(page: Page, cluster: Cluster) -> None:
    """The log is empty then, nothing is sent again, and a corrected search works."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(at(cluster, q="level=info level=error"))
    expect(page.get_by_text("field.level is given 2 times")).to_be_visible()
    assert [] == texts(page)
    assert 1 == len([one for one in asked if "/v1/messages" in one])

    post(cluster, {"msg": "is corrected"})
    page.get_by_role("searchbox").fill('"is corrected"')
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".tail .text")).to_have_text(["is corrected"])


def test_a_level_has_a_label_and_a_colour(strict_page: Page, cluster: Cluster) -> None:
    """By the usual fields, whatever their case; a level that nobody knows has neither."""
    levels = [
        ("level", "Fatal"),
        ("severity", "WARNING"),
        ("Severity_Text", "info"),
        ("level", "trace"),
        ("level", "x"),
    ]
    post(cluster, *({"msg": "has a level", "fields": {name: value}} for name, value in levels))
    strict_page.goto(at(cluster, q="has a level"))

    expect(strict_page.locator(".tail .level")).to_have_text(["TRACE", "INFO", "WARNING", "FATAL"])
    kinds = [one.get_attribute("class") for one in strict_page.locator(".tail li").all()]
    assert ["", "debug", "info", "warn", "error"] == kinds
    colours = {
        one.evaluate("it => getComputedStyle(it).borderLeftColor") for one in strict_page.locator(".tail li").all()
    }
    assert 5 == len(colours)


def test_a_click_shows_all_that_a_message_has(strict_page: Page, cluster: Cluster) -> None:
    """Id, time, node and fields; characters that would change other text are written as escapes."""
    [posted] = post(cluster, {"msg": "clicked \u202e\x1b[1m", "fields": {"n": 5, "on": True, "<b>": "a\u2066\x00"}})
    strict_page.goto(at(cluster, q="clicked"))
    line_of(strict_page, "clicked").click()

    details = strict_page.locator(".details")
    stored = get(cluster, posted)
    assert ["clicked \\u202e\\x1b[1m"] == texts(strict_page)
    for value in (posted, stored["time"], stored["node"]):
        expect(details.locator("dd").get_by_text(value, exact=True)).to_be_visible()
    expect(details.locator(".fields dt")).to_have_text(["n", "on", "<b>"])
    expect(details.locator(".fields dd")).to_have_text(["5", "true", "a\\u2066\\x00"])
    line_of(strict_page, "clicked").click()
    expect(details).to_have_count(0)


def test_a_link_shows_one_message_between_its_neighbours(strict_page: Page, cluster: Cluster) -> None:
    """Also long after it was stored; the page is live again on request."""
    post(cluster, {"msg": "linked one"}, {"msg": "linked two"}, {"msg": "linked three"})
    strict_page.goto(at(cluster, q="linked two"))
    line_of(strict_page, "linked two").click()
    link = strict_page.get_by_role("link", name="Link to this message").get_attribute("href")
    post(cluster, *({"msg": f"later {number}"} for number in range(150)))
    strict_page.goto(url(cluster, str(link)))

    expect(strict_page.locator("li", has=strict_page.locator(".details")).locator(".text")).to_have_text("linked two")
    expect(line_of(strict_page, "linked two")).to_be_in_viewport()
    shown = texts(strict_page)
    place = shown.index("linked two")
    assert ["linked three", "linked two", "linked one"] == shown[place - 1 : place + 2]
    expect(state(strict_page)).to_have_text("history")
    strict_page.get_by_role("button", name="Load newer messages").click()
    expect(line_of(strict_page, "later 118")).to_have_count(1)
    strict_page.get_by_role("button", name="Live", exact=True).click()
    expect(state(strict_page)).to_have_text("live")
    expect(line_of(strict_page, "later 149")).to_be_visible()
    assert url(cluster) == strict_page.url


def test_a_link_to_no_message_says_so(page: Page, cluster: Cluster) -> None:
    """With the sentence of the facade."""
    page.goto(at(cluster, id="01a21be3-a40a-7413-b950-8fccfa8ab842"))

    expect(page.get_by_text("there is no message 01a21be3-a40a-7413-b950-8fccfa8ab842")).to_be_visible()


def test_a_paused_log_counts_new_messages(strict_page: Page, cluster: Cluster) -> None:
    """They are shown when it goes on."""
    opened(strict_page, cluster)
    expect(state(strict_page)).to_have_text("live")
    strict_page.get_by_role("button", name="Pause").click()
    expect(state(strict_page)).to_have_text("paused")
    post(cluster, {"msg": "in the pause 1"}, {"msg": "in the pause 2"})

    resume = strict_page.get_by_role("button", name="Resume (2 new)")
    expect(resume).to_be_visible()
    expect(line_of(strict_page, "in the pause")).to_have_count(0)
    resume.click()
    expect(state(strict_page)).to_have_text("live")
    expect(line_of(strict_page, "in the pause")).to_have_count(2)


def test_a_jump_shows_the_log_from_a_time_on(browser: Browser, cluster: Cluster) -> None:
    """The time is that of the user's time zone, which is named."""
    zone = ZoneInfo("Asia/Tokyo")
    now = datetime.now(zone).replace(microsecond=0)
    times = {"early": now - timedelta(hours=3), "middle": now - timedelta(hours=2), "late": now - timedelta(hours=1)}
    records = [{"log": f"jump {name}", "date": time.isoformat()} for name, time in times.items()]
    post(cluster, *records, query="?msg_field=log&time_field=date")
    with browser.new_context(timezone_id="Asia/Tokyo") as context:
        page = context.new_page()
        page.goto(at(cluster, q="jump"))
        page.get_by_label("Time (Asia/Tokyo)").fill(times["middle"].strftime("%Y-%m-%dT%H:%M:%S"))
        page.get_by_role("button", name="Jump", exact=True).click()

        expect(page.locator("[aria-current] .text")).to_have_text("jump middle")
        expect(state(page)).to_have_text("history")
        assert ["jump late", "jump middle"] == texts(page)
        expect(
            page.get_by_text(f"from {times['middle']:%Y-%m-%d %H:%M:%S},000 GMT+09:00 (Asia/Tokyo) on")
        ).to_be_visible()
        page.get_by_role("button", name="Search older messages").click()
        expect(page.locator(".tail .text")).to_have_text(["jump late", "jump middle", "jump early"])
        page.get_by_role("button", name="Live", exact=True).click()
        expect(state(page)).to_have_text("live")
        post(cluster, {"msg": "jump back"})
        expect(page.locator(".tail .text")).to_have_text(["jump back", "jump late", "jump middle", "jump early"])


def test_history_is_loaded_at_the_end_of_the_list(strict_page: Page, cluster: Cluster) -> None:
    """Page by page, without gaps; the window keeps 1,000 lines, and what has left it can be loaded again."""
    post(cluster, *({"msg": f"bound {number}"} for number in range(1_050)))
    strict_page.goto(at(cluster, q="bound"))
    lines = strict_page.locator(".tail li")
    for number in range(100, 1_000, 100):
        expect(lines).to_have_count(number)
        strict_page.locator(".tail").evaluate("it => it.scrollTo(0, it.scrollHeight)")
    expect(lines).to_have_count(1_000)
    assert [f"bound {number}" for number in range(1_049, 49, -1)] == texts(strict_page)

    strict_page.locator(".tail").evaluate("it => it.scrollTo(0, it.scrollHeight)")
    expect(line_of(strict_page, "bound 0")).to_have_count(1)
    assert [f"bound {number}" for number in range(999, -1, -1)] == texts(strict_page)
    expect(state(strict_page)).to_have_text("paused")
    strict_page.get_by_role("button", name="Load newer messages").click()
    expect(line_of(strict_page, "bound 1049")).to_have_count(1)
    assert [f"bound {number}" for number in range(1_049, 49, -1)] == texts(strict_page)


def test_everything_can_be_done_by_keyboard(strict_page: Page, cluster: Cluster) -> None:
    """Search, move, open, close, pause, and show the keys; keys of one character can be turned off."""
    post(cluster, {"msg": "keys one"}, {"msg": "keys two"})
    opened(strict_page, cluster)
    keyboard = strict_page.keyboard
    keyboard.press("/")
    expect(strict_page.get_by_role("searchbox")).to_be_focused()
    keyboard.type("keys")
    keyboard.press("Enter")
    expect(strict_page.locator(".tail .text")).to_have_text(["keys two", "keys one"])
    keyboard.press("Escape")
    for key, line in (("j", "keys two"), ("j", "keys one"), ("k", "keys two"), ("ArrowDown", "keys one")):
        keyboard.press(key)
        expect(line_of(strict_page, line)).to_be_focused()
    assert "3px" == line_of(strict_page, "keys one").evaluate("it => getComputedStyle(it).outlineWidth")
    keyboard.press("Enter")
    expect(strict_page.locator("li", has=strict_page.locator(".details")).locator(".text")).to_have_text("keys one")
    keyboard.press("Escape")
    expect(strict_page.locator(".details")).to_have_count(0)
    expect(line_of(strict_page, "keys one")).to_be_focused()
    keyboard.press("p")
    expect(state(strict_page)).to_have_text("paused")
    line_of(strict_page, "keys one").blur()
    keyboard.press("Space")
    expect(state(strict_page)).to_have_text("live")

    keyboard.press("?")
    expect(strict_page.get_by_role("dialog", name="Keys")).to_be_visible()
    strict_page.get_by_label("Keys of one character work").press("Space")
    keyboard.press("Escape")
    expect(strict_page.get_by_role("dialog")).to_have_count(0)
    keyboard.press("/")
    expect(strict_page.get_by_role("searchbox")).not_to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_of_the_log_is_accessible(browser: Browser, cluster: Cluster, scheme: Any) -> None:
    """With levels, an open line, paused, in history, after an error, and with the keys shown."""
    levels = ("error", "warn", "info", "debug")
    ids = post(cluster, *({"msg": "accessible", "fields": {"level": level}} for level in levels))
    with browser.new_context(color_scheme=scheme) as context:
        page = opened(context.new_page(), cluster)
        expect(state(page)).to_have_text("live")
        line_of(page, "accessible").first.click()
        page.keyboard.press("p")
        expect(state(page)).to_have_text("paused")
        assert [] == violations(page)
        page.keyboard.press("?")
        assert [] == violations(page)
        page.goto(at(cluster, id=ids[0]))
        expect(page.locator(".details")).to_be_visible()
        assert [] == violations(page)
        page.goto(at(cluster, q="a=1 a=2"))
        expect(page.locator(".wrong")).to_be_visible()
        assert [] == violations(page)


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
    """Where tokens are required it shows nothing without one, and with each what it may read."""
    reader = Token("reader", (Scope.READ,), digest_of("read sesame"))
    tokens.write(tmp_path / "tokens.toml", [reader, Token("boss", (Scope.ADMIN,), digest_of("open sesame"))])
    with running_cluster(tmp_path, engine="embedded", more='[security]\ntokens = "tokens.toml"\n') as cluster:
        page.goto(url(cluster))
        expect(page.locator(".banner.bad")).to_contain_text("a token is needed")
        assert (0, 0) == (page.locator("table").count(), page.locator(".log").count())

        page.get_by_label("Token").fill("read sesame")
        page.get_by_role("button", name="Sign in").click()
        expect(state(page)).to_have_text("live", timeout=10_000)
        page.get_by_label("Token").fill("open sesame")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".banner")).to_contain_text("3/3 nodes, 3/3 in sync", timeout=10_000)
        expect(state(page)).to_have_text("live")
        page.get_by_label("Message", exact=True).fill("with a token")
        page.keyboard.press("Enter")
        expect(page.locator(".tail")).to_contain_text("with a token")
        expect(page.locator("pre")).to_contain_text("Authorization: Bearer")


def test_the_page_warns_of_a_facade_that_is_open_to_everybody(strict_page: Page, tmp_path: Path) -> None:
    """A facade that listens at all addresses without tokens is named in a notice."""
    with running_cluster(tmp_path, engine="embedded", everywhere=True) as cluster:
        strict_page.goto(url(cluster).replace("0.0.0.0", "127.0.0.1"))
        expect(strict_page.locator(".notice")).to_contain_text("everybody who reaches 0.0.0.0")

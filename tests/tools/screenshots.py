"""`python -m tests.tools.screenshots` (`make screenshots`): takes screenshots of the page for README.md.

One shows a healthy cluster and the fields of a message, one a cluster with two dead nodes, both while clients post.
Prints how long the page took to show the warning.
"""

import contextlib
import itertools
import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from scripts.launcher.cluster import Cluster
from scripts.launcher.processes import ROOT
from tests.support.clusters import running_cluster

WIDTH, HEIGHT = 1_280, 1_200
LOAD_S, AFTER_S = 20.0, 6.0  # of load before the kill, and of waiting after it
ERROR_EVERY = 50  # messages, 2.5 s


def message(number: int) -> dict[str, Any]:
    """A message of a shop, with fields; some are warnings and errors."""
    order = 4_100 + number // 3
    if number % ERROR_EVERY == 0:
        fields = {"level": "error", "service": "billing", "order": order, "attempt": 3, "retry": False}
        return {"msg": f"payment of order {order} failed: card expired", "fields": fields}
    match number % 7:
        case 0:
            fields = {"level": "warn", "service": "web", "took_ms": 400 + number}
            return {"msg": "slow answer of /checkout", "fields": fields}
        case 1:
            return {"msg": f"cache miss for order {order}", "fields": {"level": "debug", "service": "web"}}
        case _:
            fields = {"level": "info", "service": "shop", "order": order}
            return {"msg": f"order {order} {'shipped' if number % 3 else 'paid'}", "fields": fields}


@contextlib.contextmanager
def posting(url: str) -> Iterator[None]:
    """Post about 20 messages a second while the block runs."""
    over = threading.Event()

    def post() -> None:
        for number in itertools.count():
            if over.wait(0.05):
                return
            body = json.dumps(message(number)).encode()
            with contextlib.suppress(urllib.error.URLError):
                request = urllib.request.Request(f"{url}/v1/messages", body, {"Content-Type": "application/json"})
                urllib.request.urlopen(request, timeout=10).close()

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def take(browser: Browser, cluster: Cluster) -> float:
    """Take both screenshots; returns the seconds from the kill of two nodes until the page shows the warning."""
    url = f"http://{cluster.settings.facade.address}"
    with browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}) as context, posting(url):
        page = context.new_page()
        page.goto(url)
        page.locator(".banner.good").wait_for()
        page.wait_for_timeout(1_000 * LOAD_S)
        page.locator(".line", has_text="card expired").first.dispatch_event("click")  # it moves with each new message
        page.locator(".details").wait_for()
        page.screenshot(path=ROOT / "docs" / "page-healthy.png")
        began_s = time.monotonic()
        cluster.kill([1, 2])
        page.locator(".banner.warn").wait_for()
        took_s = time.monotonic() - began_s
        page.emulate_media(color_scheme="dark")
        page.wait_for_timeout(1_000 * AFTER_S)
        page.screenshot(path=ROOT / "docs" / "page-two-dead.png")
    return took_s


def main() -> None:
    """Start a cluster, take the screenshots, stop the cluster."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster(Path(folder), engine="hazelcast") as cluster,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        print(f"warning shown {take(browser, cluster):.2f} s after the kill")  # noqa: T201 (a program)
        browser.close()


if __name__ == "__main__":
    main()

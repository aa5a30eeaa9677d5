"""Load on a facade from several connections, each in its own thread: for `scripts.cli bench`."""

import threading
import time
from collections.abc import Callable
from typing import Any

from common.telemetry.quantiles import quantile
from scripts.client.api import Api
from scripts.client.facades import ApiError

TEXT = "a message of an ordinary length, some 60 characters of text."


def run(new_api: Callable[[], Api], *, clients: int, seconds: float, batch: int) -> dict[str, Any]:
    """Store messages for `seconds`, with a client of its own for each of `clients` threads.

    Returns: the number per second, the latency of a request in ms, and errors.
    """
    took_s: list[float] = []
    errors: list[str] = []
    ends_s = time.perf_counter() + seconds

    def post() -> None:
        made = new_api()
        while (began_s := time.perf_counter()) < ends_s:
            try:
                bad = [result["message"] for result in made.send([TEXT.encode()] * batch) if "message" in result]
            except ApiError as error:
                bad = [str(error)]
            errors.extend(bad)
            if not bad:
                took_s.append(time.perf_counter() - began_s)
        made.close()

    threads = [threading.Thread(target=post) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s.sort()
    return {
        "messages": len(took_s) * batch,
        "messages a second": round(len(took_s) * batch / seconds),
        "p50 ms": round(1_000 * quantile(took_s, 0.5), 2),
        "p99 ms": round(1_000 * quantile(took_s, 0.99), 2),
        "errors": len(errors),
        "first error": errors[0] if errors else "",
    }

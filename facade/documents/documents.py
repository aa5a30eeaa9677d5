"""What is answered whole: health, the cluster, metrics. Pure but for who is asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from common.wire import State
from facade.api import problem
from facade.api.body import JSON
from facade.client.client import Client
from facade.documents import openapi
from facade.documents.schema import Limits
from facade.status.fresh import Fresh
from facade.status.metrics import FacadeMetrics
from facade.status.monitor import Watch
from facade.status.view import HistoryView


@dataclass(frozen=True, slots=True)
class Document:
    """A whole answer.

    Attributes:
        etag: of what it says, without quotes; "" for none. `weak`: two that say the same may differ in their bytes.
        gzipped: the same body compressed; b"" when there is none.
    """

    body: bytes
    media_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    weak: bool = False
    gzipped: bytes = b""


Make = Callable[[Mapping[str, Any]], Document]  # of the parameters in path and query

NOT_KEPT = {"Cache-Control": "no-store"}
ASKED_AGAIN = {"Cache-Control": "no-cache"}  # and answered 304, or with what is new


def of_facade(
    client: Client,
    watch: Watch,
    metrics: FacadeMetrics,
    limits: Limits,
    *,
    draining: Callable[[], bool] = lambda: False,
) -> dict[str, Make]:
    """The documents by path.

    Args:
        client: asks the nodes what they can do.
        watch: looks at the whole cluster.
        metrics: of this facade.
        limits: of this facade.
        draining: whether this facade was told to stop.
    """
    return {
        "/livez": lambda _: Document(msgspec.json.encode({"status": "alive"}), headers=NOT_KEPT),
        "/readyz": readiness(client, draining),
        "/v1/cluster": lambda _: cluster(watch),
        "/v1/history": lambda _: Document(
            msgspec.json.encode(HistoryView(samples=watch.traffic.samples())), headers=NOT_KEPT
        ),
        "/v1/limits": always(Document(msgspec.json.encode(limits), headers=ASKED_AGAIN)),
        "/openapi.json": always(Document(openapi.description(), headers=ASKED_AGAIN)),
        "/metrics": lambda _: Document(metrics.text(), metrics.MEDIA_TYPE, headers=NOT_KEPT),
    }


def always(document: Document) -> Make:
    """The same whatever is asked for."""
    return lambda _: document


def readiness(client: Client, draining: Callable[[], bool]) -> Make:
    """Whether a message can be stored now; when `verbose` is asked for also what each logging node says."""
    up_to_one_ready = Fresh(client.scheduler, lambda: dict(client.states(all_of_them=False)))
    of_all = Fresh(client.scheduler, lambda: dict(client.states(all_of_them=True)))

    def make(params: Mapping[str, Any]) -> Document:
        states = (of_all if "verbose" in params else up_to_one_ready).get()
        stopping = draining()
        shown = {"draining": stopping, "logging_nodes": states} if "verbose" in params else {}
        if stopping or State.READY not in states.values():
            return failure(503, "this facade stops" if stopping else "no logging node can store a message", **shown)
        if client.refused:
            return failure(503, f"the logging nodes refuse what this facade sends: {client.refused}", **shown)
        return Document(msgspec.json.encode({"status": "ready", **shown}), headers=NOT_KEPT)

    return make


def cluster(watch: Watch) -> Document:
    """How the cluster is now."""
    look = watch.look()
    return Document(msgspec.json.encode(look.view), etag=look.etag, weak=True, headers=ASKED_AGAIN)


def failure(status: int, message: str, **more: Any) -> Document:
    """A problem document."""
    return Document(
        problem.body(status, message, **more), problem.MEDIA_TYPE, status, headers=dict(problem.headers(status))
    )

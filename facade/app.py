"""Builds the Falcon application of a facade: its routes, middleware and error handlers."""

from collections.abc import Mapping

import falcon

from common.config import Limits
from common.errors import ThreefoldError
from facade.api import body, middleware
from facade.api.content.entries import EntryMaker
from facade.api.documents import DocumentResource, MakeDocument
from facade.api.resources import FacadeResource, LogsResource, MessageResource, MessagesResource
from facade.auth.access import Access
from facade.auth.origins import Origins
from facade.client.client import Client
from facade.status.metrics import FacadeMetrics
from facade.streams import responses
from facade.streams.responses import StreamSemaphore
from facade.streams.subscriptions import Subscriptions


def create_app(
    client: Client,
    subscriptions: Subscriptions,
    streams: StreamSemaphore,
    documents: Mapping[str, MakeDocument],
    *,
    metrics: FacadeMetrics,
    access: Access | None = None,
    origins: Origins | None = None,
    limits: Limits = body.DEFAULT,
    maker: EntryMaker | None = None,
) -> "falcon.App[falcon.Request, falcon.Response]":
    """The WSGI application of a facade. Reads no configuration and opens no sockets.

    Args:
        client: sends requests to the other services.
        subscriptions: delivers new messages to event streams.
        streams: limits how many streamed responses are open.
        documents: functions that make complete (not streamed) responses, by path.
        metrics: counts requests.
        access: decides which requests are allowed; None allows all.
        origins: decides which pages of other sites may use this facade; None: none, and every host is known.
        limits: the limits on what clients send.
        maker: gives messages their ids; by default those of the time at which they arrive.
    """
    access, maker = access or Access(), maker or EntryMaker()
    app = falcon.App(middleware=[middleware.Middleware(metrics, access, origins or Origins())])
    app.req_options.keep_blank_qs_values = True
    app.set_error_serializer(middleware.on_http_error)
    app.add_error_handler(Exception, middleware.on_defect)
    app.add_error_handler(ThreefoldError, middleware.on_error)
    check_interval_s = responses.CHECK_INTERVAL_S if access.may_be_revoked else responses.KEEP_ALIVE_S
    messages = MessagesResource(
        client, subscriptions, streams, limits=limits, maker=maker, check_interval_s=check_interval_s
    )
    app.add_route("/facade", FacadeResource(client, streams, limits=limits, maker=maker))
    app.add_route("/v1/messages", messages)
    app.add_route("/v1/messages/{message_id}", MessageResource(client))
    app.add_route("/v1/logs", LogsResource(client, limits=limits, maker=maker))
    for path, make in documents.items():
        app.add_route(path, DocumentResource(make))
    return app

"""The messages node: answers with a static text, as a placeholder for a service that is not implemented yet."""

from common.errors import InvalidMessageError
from common.protocol.admin import Inspect, report
from common.protocol.codec import Reply, Request
from common.protocol.messages import Describe, Description, Ping, State, Status

TEXT = "not implemented yet"


async def handle(request: Request) -> Reply:
    """Answer one request.

    Raises:
        InvalidMessageError: the request is not for the messages node.
    """
    match request:
        case Ping():
            return Status(service="messages-service", state=State.READY)
        case Inspect():
            return report("messages-service", State.READY)
        case Describe():
            return Description(text=TEXT)
        case _:
            raise InvalidMessageError(f"the messages node does not answer {type(request).__name__}")

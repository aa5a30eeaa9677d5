"""What the messages node answers: a static text, the place of a service that is still to come."""

from common.errors import InvalidMessageError
from common.protocol.admin import Inspect, report
from common.protocol.codec import Reply, Request
from common.protocol.messages import Describe, Description, Ping, State, Status

TEXT = "not implemented yet"


async def handle(request: Request) -> Reply:
    """Answer one request; raises InvalidMessageError for one that is not for the messages node."""
    match request:
        case Ping():
            return Status(service="messages-service", state=State.READY)
        case Inspect():
            return report("messages-service", State.READY)
        case Describe():
            return Description(text=TEXT)
        case _:
            raise InvalidMessageError(f"the messages node does not answer {type(request).__name__}")

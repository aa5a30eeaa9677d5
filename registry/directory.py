"""Who serves what: pure, no sockets and no clock."""

from collections.abc import Mapping

from common.config import Config, ServiceIps, suggestion
from common.errors import ConfigError, InvalidMessageError
from common.wire import Code, Failure, Known, Lookup, Ping, Reply, Request, State, Status

SERVICES = tuple(ServiceIps.__struct_encode_fields__)


class Directory:
    """Answers what is known under a name: the addresses of a service, or a `hazelcast-*` setting."""

    def __init__(self, entries: Mapping[str, tuple[str, ...]]) -> None:
        self._entries = dict(entries)

    @classmethod
    def from_config(cls, config: Config) -> "Directory":
        """Everything that `[service_ips]` and `[hazelcast]` name."""
        return cls(
            {
                "messages-service": config.service_ips.messages_service,
                "logging-service": config.service_ips.logging_service,
                "hazelcast-cluster-name": (config.hazelcast.cluster_name,),
                "hazelcast-clients": config.hazelcast.clients,
            }
        )

    async def handle(self, request: Request) -> Reply:
        """Answer one request; raises InvalidMessageError for one that is not for a registry."""
        match request:
            case Ping():
                return Status(service="registry", state=State.READY)
            case Lookup(name=name):
                return self._lookup(name)
            case _:
                raise InvalidMessageError(f"a registry does not answer {type(request).__name__}")

    def _lookup(self, name: str) -> Reply:
        if name not in self._entries:
            return Failure(code=Code.UNKNOWN_NAME, reason=f"unknown name {name!r}; known: {', '.join(self._entries)}")
        return Known(name=name, values=self._entries[name])


def parse_service_ips(text: str) -> dict[str, list[str]]:
    """The addresses by service in `"logging-service 127.0.0.1:5002,logging-service 127.0.0.1:5003"`.

    Raises:
        ConfigError: an entry is not a known service and an address.
    """
    services: dict[str, list[str]] = {}
    for item in text.split(","):
        name, _, address = item.strip().partition(" ")
        if name not in SERVICES:
            raise ConfigError(f"--service-ips: unknown service {name!r}; {suggestion(name, list(SERVICES))}")
        services.setdefault(name, []).append(address.strip())
    return services

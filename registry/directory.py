"""Who serves what: pure, no sockets, and a clock and chance that are given to it."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from common.config import Config, ServiceIps, suggestion
from common.discovery.leases import LEASE_S
from common.errors import ConfigError, InvalidMessageError
from common.protocol import admin
from common.protocol.admin import Inspect, Leases, ListLeases, report
from common.protocol.codec import Reply, Request
from common.protocol.messages import (
    Code,
    Deregister,
    Failure,
    LeaseGranted,
    Lookup,
    LookupResult,
    Ping,
    Register,
    State,
    Status,
)
from common.protocol.replication import Admit, Bootstrap, Fence, Renew
from registry.in_sync import FIRST_RENEWALS_S, InSyncDirectory

SERVICES = tuple(ServiceIps.__struct_encode_fields__)
LOGGING = "logging-service"  # its leases are those of the in-sync registry
FIRST_LEASE_S = FIRST_RENEWALS_S  # of a configured address: by then every live process has registered
ADDRESSES = 1_000  # of one service; one more is refused


@dataclass(frozen=True, slots=True)
class _Lease:
    """Until when an address is handed out."""

    ends_s: float
    renewed_s: float | None = None


def draw_start() -> int:
    """A number that no other start of a registry has."""
    return secrets.randbits(62) | 1


class Directory:
    """Answers what is known under a name: the addresses of a service, or a setting.

    Args:
        services: the configured addresses by service; each but the logging nodes is handed out for a first lease, and
            longer when its node renews it.
        settings: what is known under other names.
        knows: whether an address is one of ours; others are not handed out.
        clock: the time now, in seconds from any start.
        draw: a number that no other start of a registry has.
    """

    def __init__(
        self,
        services: Mapping[str, tuple[str, ...]],
        settings: Mapping[str, tuple[str, ...]],
        *,
        knows: Callable[[str], bool] = lambda _address: True,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], int] = draw_start,
    ) -> None:
        self._knows = knows
        self._clock = clock
        self._configured = dict(services)
        self._settings = dict(settings)
        self.replicas = InSyncDirectory(clock, draw, knows=knows)
        now = clock()
        self._leases = {
            name: {address: _Lease(now + FIRST_LEASE_S) for address in addresses}
            for name, addresses in services.items()
            if name != LOGGING
        }

    @classmethod
    def from_config(cls, config: Config, *, knows: Callable[[str], bool] = lambda _address: True) -> "Directory":
        """Everything that `[service_ips]` and `[hazelcast]` name."""
        return cls(
            {
                "messages-service": config.service_ips.messages_service,
                LOGGING: config.service_ips.logging_service,
                "facade": (),  # nobody asks a facade over the wire; operators want to know which there are
            },
            {
                "hazelcast-cluster-name": (config.hazelcast.cluster_name,),
                "hazelcast-clients": config.hazelcast.clients,
                "configured-logging-service": config.service_ips.logging_service,
            },
            knows=knows,
        )

    async def handle(self, request: Request) -> Reply:
        """Answer one request; raises InvalidMessageError for one that is not for a registry."""
        if isinstance(request, Renew | Fence | Admit | Bootstrap):
            return self.replicas.handle(request)
        match request:
            case Lookup(name=name):
                return self._lookup(name)
            case Register(name=name, address=address):
                return self._register(name, address)
            case Deregister(name=name, address=address):
                return self._leave(name, address)
            case Ping() | Inspect():
                return self._status(request)
            case ListLeases():
                return self._roll()
            case _:
                raise InvalidMessageError(f"a registry does not answer {type(request).__name__}")

    def _status(self, request: Ping | Inspect) -> Reply:
        state = State.STARTING if self.replicas.starting else State.READY
        return report("registry", state) if isinstance(request, Inspect) else Status(service="registry", state=state)

    def _lookup(self, name: str) -> Reply:
        if name == LOGGING:
            if (listed := self.replicas.listed()) is None:
                return Failure(code=Code.STARTING, reason="this registry has just started, and asks who is in sync")
            return LookupResult(name=name, values=listed)
        if name in self._leases:
            return LookupResult(name=name, values=self._serving(name))
        if name in self._settings:
            return LookupResult(name=name, values=self._settings[name])
        known = ", ".join((*self._configured, *self._settings))
        return Failure(code=Code.UNKNOWN_NAME, reason=f"unknown name {name!r}; known: {known}")

    def _roll(self) -> Leases:
        found = [*self._logging_leases(), *self._other_leases()]
        return Leases(leases=tuple(found[:ADDRESSES]), members=self._settings.get("hazelcast-clients", ()))

    def _logging_leases(self) -> Iterator[admin.LeaseInfo]:
        now, listed, leases = self._clock(), self.replicas.listed() or (), self.replicas.leases
        configured = self._configured.get(LOGGING, ())
        for address in dict.fromkeys([*configured, *leases]):
            lease = leases.get(address)
            yield admin.LeaseInfo(
                LOGGING,
                address,
                listed=address in listed,
                alive=lease is not None and lease.ends_s > now,
                configured=address in configured,
                renewed_s=now - lease.renewed_s if lease else -1.0,
            )

    def _other_leases(self) -> Iterator[admin.LeaseInfo]:
        now = self._clock()
        for name, leases in self._leases.items():
            listed, configured = self._serving(name), self._configured[name]
            for address, lease in leases.items():
                if lease.ends_s > now or address in configured:
                    yield admin.LeaseInfo(
                        name,
                        address,
                        listed=address in listed,
                        alive=lease.ends_s > now,
                        configured=address in configured,
                        renewed_s=-1.0 if lease.renewed_s is None else now - lease.renewed_s,
                    )

    def _serving(self, name: str) -> tuple[str, ...]:
        """The addresses with a lease; all configured ones if none has."""
        now = self._clock()
        alive = tuple(
            address for address, lease in self._leases[name].items() if lease.ends_s > now and self._knows(address)
        )
        return alive or tuple(filter(self._knows, self._configured[name]))

    def _register(self, name: str, address: str) -> Reply:
        if name not in self._leases:
            known = ", ".join(self._leases)
            return Failure(code=Code.UNKNOWN_NAME, reason=f"nobody registers for {name!r}; known: {known}")
        leases, now = self._leases[name], self._clock()
        for lapsed in [other for other, lease in leases.items() if lease.ends_s <= now]:
            if lapsed not in self._configured[name]:
                del leases[lapsed]
        if address not in leases and len(leases) >= ADDRESSES:
            return Failure(code=Code.OVERLOADED, reason=f"{ADDRESSES} addresses serve {name} already")
        leases[address] = _Lease(now + LEASE_S, now)
        return LeaseGranted(seconds=LEASE_S)

    def _leave(self, name: str, address: str) -> Reply:
        leases, now = self._leases.get(name, {}), self._clock()
        if address in self._configured.get(name, ()):
            leases[address] = _Lease(now)
        else:
            leases.pop(address, None)
        return LeaseGranted(seconds=0)


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

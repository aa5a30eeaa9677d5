"""The directory of services and settings. Pure: no sockets; clock and randomness are injected."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from common.config import Config, ServiceIps
from common.discovery.leases import LEASE_S
from common.errors import ConfigError, InvalidMessageError, suggestion
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
LOGGING = "logging-service"  # the InSyncDirectory holds the leases of this service
FIRST_LEASE_S = FIRST_RENEWALS_S  # first lease of a configured address; every live process registers within it
ADDRESSES = 1_000  # limit on the addresses of one service, to bound the memory


@dataclass(frozen=True, slots=True)
class _Lease:
    """The lease of an address: when it ends, and when it was last renewed (None: never), by the clock."""

    ends_s: float
    renewed_s: float | None = None


def draw_start() -> int:
    """A random number that identifies one start of a registry; never 0."""
    return secrets.randbits(62) | 1


class Directory:
    """Answers lookups of a name: the addresses of a service, or the values of a setting.

    Args:
        services: the configured addresses by service. Except for logging nodes, each starts with a lease of
            FIRST_LEASE_S, which its node must renew.
        settings: the values of other names.
        is_known: True for the address of a known node; other addresses are not listed.
        clock: the current time in seconds, from any start.
        draw: returns a random number that identifies one start of a registry.
    """

    def __init__(
        self,
        services: Mapping[str, tuple[str, ...]],
        settings: Mapping[str, tuple[str, ...]],
        *,
        is_known: Callable[[str], bool] = lambda _address: True,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], int] = draw_start,
    ) -> None:
        self._is_known = is_known
        self._clock = clock
        self._configured = dict(services)
        self._settings = dict(settings)
        self.replicas = InSyncDirectory(clock, draw, is_known=is_known)
        now = clock()
        self._leases = {
            name: {address: _Lease(now + FIRST_LEASE_S) for address in addresses}
            for name, addresses in services.items()
            if name != LOGGING
        }

    @classmethod
    def from_config(cls, config: Config, *, is_known: Callable[[str], bool] = lambda _address: True) -> "Directory":
        """A directory of the services and settings in `[service_ips]` and `[hazelcast]`."""
        return cls(
            {
                "messages-service": config.service_ips.messages_service,
                LOGGING: config.service_ips.logging_service,
                "facade": (),  # facades register so that operators can list them; nobody calls them over the wire
            },
            {
                "hazelcast-cluster-name": (config.hazelcast.cluster_name,),
                "hazelcast-clients": config.hazelcast.clients,
                "configured-logging-service": config.service_ips.logging_service,
            },
            is_known=is_known,
        )

    async def handle(self, request: Request) -> Reply:
        """Answer a request; raises InvalidMessageError if a registry does not handle it."""
        if isinstance(request, Renew | Fence | Admit | Bootstrap):
            return self.replicas.handle(request)
        match request:
            case Lookup(name=name):
                return self._lookup(name)
            case Register(name=name, address=address):
                return self._register(name, address)
            case Deregister(name=name, address=address):
                return self._deregister(name, address)
            case Ping() | Inspect():
                return self._status(request)
            case ListLeases():
                return self._list_leases()
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
            return LookupResult(name=name, values=self._listed(name))
        if name in self._settings:
            return LookupResult(name=name, values=self._settings[name])
        known = ", ".join((*self._configured, *self._settings))
        return Failure(code=Code.UNKNOWN_NAME, reason=f"unknown name {name!r}; known: {known}")

    def _list_leases(self) -> Leases:
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
            listed, configured = self._listed(name), self._configured[name]
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

    def _listed(self, name: str) -> tuple[str, ...]:
        """The addresses with a live lease; all configured addresses if there is none."""
        now = self._clock()
        alive = tuple(
            address for address, lease in self._leases[name].items() if lease.ends_s > now and self._is_known(address)
        )
        return alive or tuple(filter(self._is_known, self._configured[name]))

    def _register(self, name: str, address: str) -> Reply:
        if name not in self._leases:
            known = ", ".join(self._leases)
            return Failure(code=Code.UNKNOWN_NAME, reason=f"nobody registers for {name!r}; known: {known}")
        leases, now = self._leases[name], self._clock()
        for lapsed in [other for other, lease in leases.items() if lease.ends_s <= now]:
            if lapsed not in self._configured[name]:
                del leases[lapsed]
        if address not in leases and len(leases) >= ADDRESSES:
            return Failure(code=Code.OVERLOADED, reason=f"{name} has {ADDRESSES} addresses already")
        leases[address] = _Lease(now + LEASE_S, now)
        return LeaseGranted(seconds=LEASE_S)

    def _deregister(self, name: str, address: str) -> Reply:
        leases, now = self._leases.get(name, {}), self._clock()
        if address in self._configured.get(name, ()):
            leases[address] = _Lease(now)
        else:
            leases.pop(address, None)
        return LeaseGranted(seconds=0)


def parse_service_ips(text: str) -> dict[str, list[str]]:
    """The addresses by service in a text such as `logging-service 127.0.0.1:5002,logging-service 127.0.0.1:5003`.

    Raises:
        ConfigError: an entry does not begin with a known service.
    """
    services: dict[str, list[str]] = {}
    for item in text.split(","):
        name, _, address = item.strip().partition(" ")
        if name not in SERVICES:
            raise ConfigError(f"--service-ips: unknown service {name!r}; {suggestion(name, list(SERVICES))}")
        services.setdefault(name, []).append(address.strip())
    return services

"""Who serves what: pure, no sockets, and a clock that is given to it."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from common import inspection
from common.codec import Reply, Request
from common.config import Config, ServiceIps, suggestion
from common.errors import ConfigError, InvalidMessageError
from common.inspection import Called, Inspect, Roll, report
from common.wire import Code, Failure, Known, Leased, Leave, Lookup, Ping, Register, State, Status

SERVICES = tuple(ServiceIps.__struct_encode_fields__)
LEASE_S = 3.0  # three heartbeats of a node: one may be late, and a dead node is handed out no longer
FIRST_LEASE_S = 1.2  # of a configured address from the start: within a heartbeat all that are alive have registered
ADDRESSES = 1_000  # of one service; one more is refused


@dataclass(frozen=True, slots=True)
class _Lease:
    """Until when an address is handed out, since when it is known, and which cluster members its node sees."""

    ends_s: float
    since_s: float
    renewed_s: float | None = None
    view: frozenset[str] = frozenset()


class Directory:
    """Answers what is known under a name: the addresses of a service, or a setting.

    Args:
        services: the configured addresses by service; each is handed out for a first lease, and longer when its
            node renews it.
        settings: what is known under other names.
        knows: whether an address is one of ours; others are not handed out.
        clock: the time now, in seconds from any start.
    """

    def __init__(
        self,
        services: Mapping[str, tuple[str, ...]],
        settings: Mapping[str, tuple[str, ...]],
        *,
        knows: Callable[[str], bool] = lambda _address: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._knows = knows
        self._clock = clock
        self._configured = dict(services)
        self._settings = dict(settings)
        now = clock()
        self._leases = {
            name: {address: _Lease(now + FIRST_LEASE_S, now) for address in addresses}
            for name, addresses in services.items()
        }

    @classmethod
    def from_config(cls, config: Config, *, knows: Callable[[str], bool] = lambda _address: True) -> "Directory":
        """Everything that `[service_ips]` and `[hazelcast]` name."""
        return cls(
            {
                "messages-service": config.service_ips.messages_service,
                "logging-service": config.service_ips.logging_service,
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
        match request:
            case Ping():
                return Status(service="registry", state=State.READY)
            case Inspect():
                return report("registry", State.READY)
            case Roll():
                return self._roll()
            case Lookup(name=name):
                return self._lookup(name)
            case Register(name=name, address=address, view=view):
                return self._register(name, address, frozenset(view))
            case Leave(name=name, address=address):
                return self._leave(name, address)
            case _:
                raise InvalidMessageError(f"a registry does not answer {type(request).__name__}")

    def _lookup(self, name: str) -> Reply:
        if name in self._leases:
            return Known(name=name, values=self._serving(name))
        if name in self._settings:
            return Known(name=name, values=self._settings[name])
        known = ", ".join((*self._leases, *self._settings))
        return Failure(code=Code.UNKNOWN_NAME, reason=f"unknown name {name!r}; known: {known}")

    def _roll(self) -> Called:
        now = self._clock()
        found: list[inspection.Lease] = []
        for name, leases in self._leases.items():
            listed, configured = self._serving(name), self._configured[name]
            found += [
                inspection.Lease(
                    name,
                    address,
                    listed=address in listed,
                    alive=lease.ends_s > now,
                    configured=address in configured,
                    renewed_s=-1.0 if lease.renewed_s is None else now - lease.renewed_s,
                    sees=len(lease.view),
                )
                for address, lease in leases.items()
                if lease.ends_s > now or address in configured
            ]
        return Called(leases=tuple(found[:ADDRESSES]), members=self._settings.get("hazelcast-clients", ()))

    def _serving(self, name: str) -> tuple[str, ...]:
        """The addresses with a lease, of the largest group that sees one cluster; all configured ones if none has."""
        now = self._clock()
        alive = {
            address: lease
            for address, lease in self._leases[name].items()
            if lease.ends_s > now and self._knows(address)
        }
        return largest_group(alive) if alive else tuple(filter(self._knows, self._configured[name]))

    def _register(self, name: str, address: str, view: frozenset[str]) -> Reply:
        if name not in self._leases:
            return Failure(code=Code.UNKNOWN_NAME, reason=f"unknown service {name!r}; known: {', '.join(self._leases)}")
        leases, now = self._leases[name], self._clock()
        for lapsed in [other for other, lease in leases.items() if lease.ends_s <= now]:
            if lapsed not in self._configured[name]:
                del leases[lapsed]
        if address not in leases and len(leases) >= ADDRESSES:
            return Failure(code=Code.OVERLOADED, reason=f"{ADDRESSES} addresses serve {name} already")
        known = leases.get(address)
        leases[address] = _Lease(now + LEASE_S, known.since_s if known and known.ends_s > now else now, now, view)
        return Leased(seconds=LEASE_S)

    def _leave(self, name: str, address: str) -> Reply:
        leases, now = self._leases.get(name, {}), self._clock()
        if address in self._configured.get(name, ()):
            leases[address] = _Lease(now, now)
        else:
            leases.pop(address, None)
        return Leased(seconds=0)


def largest_group(leases: Mapping[str, _Lease]) -> tuple[str, ...]:
    """The addresses whose nodes see the same cluster: when there are several, the most, and of as many the oldest.

    Two nodes see the same cluster when any member is in both their views. A node without a view belongs to all.
    """
    groups: list[tuple[frozenset[str], list[str]]] = []
    everywhere = [address for address, lease in leases.items() if not lease.view]
    for address, lease in leases.items():
        if lease.view:
            apart = [group for group in groups if not group[0] & lease.view]
            joined = [group for group in groups if group[0] & lease.view]
            view = lease.view.union(*(group[0] for group in joined))
            groups = [*apart, (view, [*_flat(group[1] for group in joined), address])]
    if not groups:
        return tuple(everywhere)
    _, chosen = max(groups, key=lambda group: (len(group[1]), -min(leases[address].since_s for address in group[1])))
    return tuple(address for address in leases if address in chosen or address in everywhere)


def _flat(lists: Iterable[list[str]]) -> list[str]:
    return [item for items in lists for item in items]


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

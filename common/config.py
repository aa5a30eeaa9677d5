"""The configuration: config.toml, read once into frozen values.

Each `__main__` and the launcher call `load`; all other code gets the settings that it needs as arguments. Variables of
the environment override keys of the file (common.settings.environment).
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from common.errors import ConfigError, suggestion
from common.hostport import HIGHEST_PORT, Address, Addresses, HostNames, Origins, split
from common.protocol.content import FIELDS_BYTES, MESSAGE_BYTES
from common.settings import environment, files

NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})

Seconds = Annotated[float, Meta(gt=0, le=600)]


class ServiceIps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """The addresses at which each service listens; the registry starts with these."""

    messages_service: Annotated[Addresses, Meta(description="host:port of each messages node")]
    logging_service: Annotated[Addresses, Meta(description="host:port of each logging node")]


class Hazelcast(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Hazelcast cluster, whose map holds the recent messages."""

    cluster_name: Annotated[
        str,
        Meta(min_length=1, max_length=64, description="name of the cluster, the same for all its members and clients"),
    ] = field(name="hazelcast-cluster-name")
    clients: Annotated[Addresses, Meta(description="host:port of each member; logging node N starts member N")] = field(
        name="hazelcast-clients"
    )
    launch: Annotated[
        bool, Meta(description="true: each logging node starts its member; false: the members must already run")
    ] = True
    heap_mb: Annotated[
        int,
        Meta(
            ge=64,
            le=1_048_576,
            description="Java heap of each member in MiB; 100,000 messages of 60 characters take 40 MiB",
        ),
    ] = 256


class Registry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The registries, which list the addresses of each service."""

    addresses: Annotated[
        Addresses,
        Meta(description="host:port of each registry; they share nothing, clients ask the next if one is unavailable"),
    ] = ("127.0.0.1:5005",)


class Facade(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The facade, which serves HTTP."""

    address: Annotated[Address, Meta(description="host:port at which the facade listens")] = "127.0.0.1:5000"
    threads: Annotated[
        int, Meta(ge=1, le=1_000, description="requests handled at once; open `streams` do not count")
    ] = 128
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="processes at this address, each with its own threads, streams, failure detector and metrics",
        ),
    ] = 1
    streams: Annotated[
        int,
        Meta(
            ge=1,
            le=2_000,
            description="open streams (lines, events, long reads), in addition to `threads`; one more gets 503",
        ),
    ] = 32
    hosts: Annotated[
        HostNames, Meta(description="more names of this facade, `*`: any; without tokens, other names get 421")
    ] = ()
    cors_origins: Annotated[Origins, Meta(description="other sites whose pages may use this facade in a browser")] = ()
    attempt_timeout_s: Annotated[
        Seconds, Meta(description="seconds for one attempt at one node; then the next node is tried")
    ] = 1.0
    deadline_s: Annotated[Seconds, Meta(description="seconds for all attempts of one request; then 503")] = 10.0


class Storage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The storage engine, and its files."""

    engine: Annotated[
        Literal["hazelcast", "embedded"],
        Meta(description="hazelcast: journals and a Hazelcast map; embedded: the same without the map, needs no Java"),
    ] = "hazelcast"
    directory: Annotated[
        str,
        Meta(description="folder of journals, logs and the launcher's state; relative to the folder of config.toml"),
    ] = "data"
    retention_days: Annotated[
        float, Meta(ge=0, le=36_500, description="days after which a message is deleted from all nodes; 0: never")
    ] = 0.0
    hot_minutes: Annotated[
        float, Meta(gt=1, le=525_600, description="minutes for which the Hazelcast map keeps a message")
    ] = 60.0
    hot_messages: Annotated[
        int, Meta(ge=1_000, description="recent messages that are put into the map again when its members change")
    ] = 50_000
    min_in_sync: Annotated[
        int, Meta(ge=1, le=100, description="replicas that must be in sync; with fewer, writes get 503")
    ] = 1
    assemble_s: Annotated[
        Seconds, Meta(description="seconds that a starting node waits for the other members of its last in-sync set")
    ] = 10.0


class Metrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """The addresses at which logging nodes serve metrics for Prometheus; a facade serves its own at `/metrics`."""

    logging_service: Annotated[
        tuple[Address, ...],
        Meta(max_length=100, description="host:port of each logging node's metrics, in the same order; none: off"),
    ] = ()


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits on what a facade accepts from clients, which can read them at `/v1/limits`."""

    message_bytes: Annotated[int, Meta(ge=1, le=MESSAGE_BYTES, description="one message in UTF-8")] = MESSAGE_BYTES
    body_bytes: Annotated[
        int, Meta(ge=1_024, le=1_048_576, description="body with one message; JSON escapes can be 6 times as long")
    ] = 1_048_576
    fields: Annotated[int, Meta(ge=1, le=256, description="fields of one message")] = 32
    fields_bytes: Annotated[int, Meta(ge=2, le=FIELDS_BYTES, description="fields of one message as JSON")] = 4_096
    batch_messages: Annotated[int, Meta(ge=1, le=100_000, description="messages in one request")] = 10_000
    batch_bytes: Annotated[int, Meta(ge=1_024, le=104_857_600, description="body with a batch")] = 10_485_760
    key_characters: Annotated[int, Meta(ge=1, le=255, description="length of an Idempotency-Key")] = 255
    url_bytes: Annotated[int, Meta(ge=256, le=65_536, description="first line of a request")] = 8_192
    header_bytes: Annotated[int, Meta(ge=1_024, le=65_536, description="all headers of a request")] = 16_384
    receive_s: Annotated[Seconds, Meta(description="seconds to receive the head of a request; then 408")] = 5.0
    body_bytes_per_s: Annotated[int, Meta(ge=1, le=1_048_576, description="slowest rate of a body; then 408")] = 1_024
    stalled_s: Annotated[
        Seconds, Meta(description="seconds in which a client reads nothing of its answer, before it is disconnected")
    ] = 15.0
    queued: Annotated[int, Meta(ge=1, le=10_000, description="requests that wait; one more gets 503 at once")] = 256
    connections: Annotated[
        int, Meta(ge=8, le=100_000, description="open connections; a few more for health and status only")
    ] = 2_048
    client_rate: Annotated[
        str,
        Meta(
            pattern="^([1-9][0-9]{0,8}/(second|minute|hour|day))?$",
            description="requests of one client (by token, else by IP address), such as `100/second`; more get 429",
        ),
    ] = ""


class Security(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Authentication; without a setting, anyone who can reach the port has access."""

    keys: Annotated[
        str,
        Meta(
            description="folder of the CURVE keys of all processes, made by `python -m scripts.keys`; relative to the "
            "folder of config.toml"
        ),
    ] = ""
    tokens: Annotated[
        str,
        Meta(
            description="file of the clients' tokens, made by `python -m scripts.tokens`; relative to the same folder"
        ),
    ] = ""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of config.toml; all tables except `service_ips` and `hazelcast` are optional."""

    service_ips: ServiceIps
    hazelcast: Hazelcast
    registry: Registry = Registry()
    facade: Facade = Facade()
    storage: Storage = Storage()
    metrics: Metrics = Metrics()
    limits: Limits = Limits()
    security: Security = Security()


def load(path: Path = files.PACKAGED, environ: Mapping[str, str] = NO_ENVIRONMENT) -> Config:
    """Read and check the configuration: a file, and the variables of the environment that override it.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML, or a key is unknown, mistyped or contradicts another.
    """
    settings = environment.read(environ, Config)
    tables = files.decoded(file := files.readable(path, environ))
    try:
        return check(environment.overlaid(tables, settings))
    except ConfigError as error:
        origin = ", ".join([str(file), *(setting.variable for setting in settings)])
        raise ConfigError(f"{origin}: {error}") from error


def check(tables: dict[str, object]) -> Config:
    """The configuration in TOML tables as tomli returns them; `storage.directory` is not resolved.

    Raises:
        ConfigError: a key is unknown, has a wrong type or contradicts another one.
    """
    _refuse_unknown(tables, Config, "table")
    for table in msgspec.structs.fields(Config):
        if isinstance(keys := tables.get(table.encode_name), dict):
            _refuse_unknown(keys, table.type, f"key in [{table.encode_name}]")
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error).replace("`$.", "`")) from error
    _refuse_inconsistent(config)
    return config


def with_service_ips(config: Config, services: dict[str, list[str]]) -> Config:
    """A copy of the configuration with other addresses for the named services, checked like the file.

    Raises:
        ConfigError: an address is not host:port, or contradicts another key.
    """
    tables = msgspec.to_builtins(config)
    tables["service_ips"].update(services)
    return check(tables)


def metrics_of(config: Config, node: str) -> str | None:
    """The address (host:port) at which a logging node serves metrics; None if none is configured."""
    return dict(zip(config.service_ips.logging_service, config.metrics.logging_service, strict=False)).get(node)


def _refuse_unknown(keys: dict[str, object], kind: type[Struct], what: str) -> None:
    known = [item.encode_name for item in msgspec.structs.fields(kind)]
    for key in keys:
        if key not in known:
            raise ConfigError(f"unknown {what} {key!r}; {suggestion(key, known)}")


def _refuse_inconsistent(config: Config) -> None:
    nodes, members = config.service_ips.logging_service, config.hazelcast.clients
    name = config.hazelcast.cluster_name
    if name != name.strip() or not name.isprintable():
        raise ConfigError(
            f"[hazelcast] hazelcast-cluster-name is {name!r}: it may not have blanks at its ends or control codes"
        )
    if config.hazelcast.launch and len(nodes) > len(members):
        raise ConfigError(
            f"[service_ips] logging-service has {len(nodes)} addresses and [hazelcast] hazelcast-clients has "
            f"{len(members)}: each logging node starts the member of the same number, so none may be missing"
        )
    if 0 < len(config.metrics.logging_service) < len(nodes):
        raise ConfigError(
            f"[service_ips] logging-service has {len(nodes)} addresses and [metrics] logging-service has "
            f"{len(config.metrics.logging_service)}: give each node one, or leave it out"
        )
    if config.facade.attempt_timeout_s > config.facade.deadline_s:
        raise ConfigError(
            f"[facade] attempt_timeout_s is {config.facade.attempt_timeout_s}, over deadline_s, which is "
            f"{config.facade.deadline_s}"
        )
    for less, more in (("message_bytes", "body_bytes"), ("body_bytes", "batch_bytes")):
        if (small := getattr(config.limits, less)) > (large := getattr(config.limits, more)):
            raise ConfigError(f"[limits] {less} is {small}, over {more}, which is {large}")
    listeners = [
        *((address, "[service_ips] messages-service") for address in config.service_ips.messages_service),
        *((address, "[service_ips] logging-service") for address in nodes),
        *((address, "[hazelcast] hazelcast-clients") for address in members),
        *((address, "[registry] addresses") for address in config.registry.addresses),
        (config.facade.address, "[facade] address"),
        *((address, "[metrics] logging-service") for address in config.metrics.logging_service),
    ]
    keys: dict[str, str] = {}
    for address, key in listeners:
        if split(address)[1] > HIGHEST_PORT:
            raise ConfigError(f"{key}: {address} has a port over {HIGHEST_PORT}")
        if address in keys:
            raise ConfigError(f"{keys[address]} and {key} both have {address}; each listener needs its own address")
        keys[address] = key

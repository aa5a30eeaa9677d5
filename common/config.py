"""config.toml, read once into frozen values.

`load` is called by each `__main__` and by the launcher; everything below gets what it needs as arguments.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import tomli
from msgspec import Meta, Struct, field

from common.errors import ConfigError
from common.protocol.messages import MESSAGE_BYTES

DEFAULT_PATH = Path(__file__).parents[1] / "config.toml"

HIGHEST_PORT = 65_535
EVERYWHERE = ("0.0.0.0", "*", "::")  # hosts to listen on, and not addresses at which anybody is reached
ADDRESS = re.compile(r"^[A-Za-z0-9._-]+:([1-9][0-9]{0,4})$")
Address = Annotated[str, Meta(pattern=ADDRESS.pattern, max_length=64)]  # host:port
Addresses = Annotated[tuple[Address, ...], Meta(min_length=1, max_length=100)]
Seconds = Annotated[float, Meta(gt=0, le=600)]


class ServiceIps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Where each service listens: the start of the registry's list."""

    messages_service: Annotated[Addresses, Meta(description="host:port of each messages node")]
    logging_service: Annotated[Addresses, Meta(description="host:port of each logging node")]


class Hazelcast(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cluster that keeps what is recent."""

    cluster_name: Annotated[
        str,
        Meta(min_length=1, max_length=64, description="the name that members and clients of one cluster share"),
    ] = field(name="hazelcast-cluster-name")
    clients: Annotated[
        Addresses, Meta(description="host:port of each member; number N is started by logging node N")
    ] = field(name="hazelcast-clients")
    launch: Annotated[
        bool, Meta(description="whether a logging node starts its member; if not, the members must run already")
    ] = True
    heap_mb: Annotated[
        int,
        Meta(
            ge=64,
            le=1_048_576,
            description="Java heap of each member, in MiB; 100,000 messages of 60 characters take 40",
        ),
    ] = 256


class Registry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who says who serves what."""

    addresses: Annotated[
        Addresses,
        Meta(description="host:port of each registry; they share nothing, the next is asked when one is silent"),
    ] = ("127.0.0.1:5005",)


class Facade(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP side."""

    address: Annotated[Address, Meta(description="host:port at which the facade listens")] = "127.0.0.1:5000"
    threads: Annotated[
        int, Meta(ge=1, le=1_000, description="requests that it works on at once, also while all `streams` are taken")
    ] = 128
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="processes that share the address; each has threads, streams, suspects and counts of its own",
        ),
    ] = 1
    streams: Annotated[
        int,
        Meta(
            ge=1,
            le=2_000,
            description="answers that go on (lines, events, long reads) at once, beside the others; one more is 503",
        ),
    ] = 32
    attempt_timeout_s: Annotated[
        Seconds, Meta(description="seconds for one attempt at one node; then the next node is asked")
    ] = 1.0
    deadline_s: Annotated[Seconds, Meta(description="seconds for all attempts of one request; then 503")] = 10.0


class Storage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The engine, and where files go."""

    engine: Annotated[
        Literal["hazelcast", "embedded"],
        Meta(description="embedded: the same without Hazelcast members and the map, where there is no Java"),
    ] = "hazelcast"
    directory: Annotated[
        str,
        Meta(description="for journals, logs, and what the launcher notes; relative to the folder of config.toml"),
    ] = "data"
    retention_days: Annotated[
        float, Meta(ge=0, le=36_500, description="days after which a message is removed everywhere; 0: never")
    ] = 0.0
    hot_minutes: Annotated[
        float,
        Meta(gt=1, le=525_600, description="minutes for which the map keeps a message"),
    ] = 60.0
    hot_messages: Annotated[
        int, Meta(ge=1_000, description="how many recent messages the map is given again when members came or went")
    ] = 50_000
    min_in_sync: Annotated[
        int, Meta(ge=1, le=100, description="replicas that must be in sync; with fewer, writes are 503")
    ] = 1
    assemble_s: Annotated[
        Seconds,
        Meta(description="seconds for which a node that starts waits for the others that were in sync with it last"),
    ] = 10.0


class Metrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Where Prometheus finds what each node counts; a facade has that at its `/metrics`."""

    logging_service: Annotated[
        tuple[Address, ...],
        Meta(max_length=100, description="host:port of the metrics of each logging node, in their order; none: off"),
    ] = ()


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a facade takes of its clients, who find it at `/v1/limits`."""

    message_bytes: Annotated[int, Meta(ge=1, le=MESSAGE_BYTES, description="of one message in UTF-8")] = MESSAGE_BYTES
    body_bytes: Annotated[
        int, Meta(ge=1_024, le=1_048_576, description="of the body of one message; escaped, a text is 6 times as long")
    ] = 1_048_576
    batch_messages: Annotated[int, Meta(ge=1, le=10_000, description="messages in one request")] = 10_000
    batch_bytes: Annotated[int, Meta(ge=1_024, le=104_857_600, description="of the body of many")] = 10_485_760
    key_characters: Annotated[int, Meta(ge=1, le=255, description="of an Idempotency-Key")] = 255
    url_bytes: Annotated[int, Meta(ge=256, le=65_536, description="of the first line of a request")] = 8_192
    header_bytes: Annotated[int, Meta(ge=1_024, le=65_536, description="of all headers of a request")] = 16_384
    receive_s: Annotated[Seconds, Meta(description="from a request's first byte to its last; then it is cut")] = 5.0
    stalled_s: Annotated[Seconds, Meta(description="in which a client takes nothing of its answer")] = 15.0
    queued: Annotated[int, Meta(ge=1, le=10_000, description="requests that wait; one more is 503 at once")] = 256
    connections: Annotated[
        int, Meta(ge=8, le=100_000, description="at once; beyond them some for health and status alone")
    ] = 2_048
    client_rate: Annotated[
        str,
        Meta(
            pattern="^([1-9][0-9]{0,8}/(second|minute|hour|day))?$",
            description="requests of one client (a token, or else an IP address), as `100/second`; more are 429",
        ),
    ] = ""


class Security(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may talk to whom; what is not given is open to everybody who reaches the port."""

    keys: Annotated[
        str,
        Meta(
            description="folder of the keys of our processes (CURVE), made by `python -m scripts.keys`; relative to "
            "that of config.toml"
        ),
    ] = ""
    tokens: Annotated[
        str,
        Meta(description="file of the clients' tokens, made by `python -m scripts.tokens`; relative like `keys`"),
    ] = ""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of config.toml; every table but `service_ips` and `hazelcast` may be left out."""

    service_ips: ServiceIps
    hazelcast: Hazelcast
    registry: Registry = Registry()
    facade: Facade = Facade()
    storage: Storage = Storage()
    metrics: Metrics = Metrics()
    limits: Limits = Limits()
    security: Security = Security()


def load(path: Path = DEFAULT_PATH) -> Config:
    """Read and check the configuration.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML, or a key is unknown, of a wrong type or inconsistent.
    """
    try:
        tables = tomli.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read the configuration {path}: {reason}") from error
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return check(tables)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def check(tables: dict[str, object]) -> Config:
    """The configuration in TOML tables as tomli gives them; `storage.directory` stays as it is written.

    Raises:
        ConfigError: a key is unknown, of a wrong type or inconsistent.
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
    """The same configuration with other addresses for some services, by name, checked like the file.

    Raises:
        ConfigError: an address is not host:port, or the whole is inconsistent.
    """
    tables = msgspec.to_builtins(config)
    tables["service_ips"].update(services)
    return check(tables)


def metrics_of(config: Config, node: str) -> str | None:
    """The address (host:port) of the metrics of a logging node; None for one that has none."""
    return dict(zip(config.service_ips.logging_service, config.metrics.logging_service, strict=False)).get(node)


def split(address: str) -> tuple[str, int]:
    """Host and port of a `host:port`."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def suggestion(word: str, known: list[str]) -> str:
    """A hint to append to an error about an unknown `word`: the nearest known one, or all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _refuse_unknown(keys: dict[str, object], kind: type[Struct], what: str) -> None:
    known = [item.encode_name for item in msgspec.structs.fields(kind)]
    for key in keys:
        if key not in known:
            raise ConfigError(f"unknown {what} {key!r}; {suggestion(key, known)}")


def _refuse_inconsistent(config: Config) -> None:
    nodes, members = config.service_ips.logging_service, config.hazelcast.clients
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

"""A Hazelcast member as a child process of its logging node: it starts, stops and is killed with the node."""

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from common.errors import FatalError
from common.hostport import split
from common.process import dying_with_this
from common.security import exposure
from nodes.hazelcast.java import JavaRuntime, environment

log = structlog.get_logger()

CONFIGURATION = Path(__file__).with_name("member.yaml")
START_S = 60.0  # limit of a start: 1.5 s measured alone, 10 s when three members compete to be master
POLL_S = 0.05  # between two health checks while a member starts; one costs 1 ms
HEALTH_S = 1.0  # timeout of a health check
LEAVE_S = 15.0  # from SIGTERM to SIGKILL: a member moves its partitions for at most 10 s (member.yaml)


class MemberHealth(msgspec.Struct, frozen=True, rename="camel"):
    """The health of a member and its cluster, as the member reports it.

    Attributes:
        node_state: "ACTIVE" when the member serves.
        cluster_size: number of members that it sees.
        cluster_safe: whether all backups are in place.
        migration_queue_size: number of partitions still to be moved.
    """

    node_state: str
    cluster_size: int
    cluster_safe: bool
    migration_queue_size: int

    @property
    def has_all_backups(self) -> bool:
        """True if every partition has its two backups, so that any two members may be killed."""
        return self.node_state == "ACTIVE" and self.cluster_safe and self.migration_queue_size == 0


class MemberProcess:
    """A running member; created by `running_member`."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, log_path: Path) -> None:
        self._process = process
        self._address = address
        self._log_path = log_path

    async def started(self) -> None:
        """Wait until the member serves; raises FatalError when it ends before that, or after START_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while self._process.returncode is None:
                    if (
                        health := await asyncio.to_thread(read_health, self._address)
                    ) and health.node_state == "ACTIVE":
                        return
                    await asyncio.sleep(POLL_S)
        raise FatalError(f"the Hazelcast member {self._address} did not start: {self._last_error()}")

    async def wait(self, good: Callable[[MemberHealth], bool], *, timeout_s: float) -> bool:
        """Wait until `good` accepts the member's health; False if it did not within `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not ((health := await asyncio.to_thread(read_health, self._address)) and good(health)):
                    await asyncio.sleep(POLL_S)
                return True
        return False

    async def ended(self) -> str:
        """Wait until the process has ended; return a sentence with its exit code and its last error."""
        code = await self._process.wait()
        return f"the Hazelcast member {self._address} ended with {code}: {self._last_error()}"

    async def stop(self) -> None:
        """Let the member leave the cluster gracefully; kill it if that takes more than LEAVE_S."""
        with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), LEAVE_S)
            except TimeoutError:
                log.warning("the member did not leave in time, killing it", seconds=LEAVE_S)
                self._process.kill()
                await self._process.wait()

    def _last_error(self) -> str:
        """The last line of the member's log that reports an error, or else its last line."""
        lines = self._log_path.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "SEVERE" in line or "Error" in line or "Exception" in line]
        return (errors or lines or ["it wrote nothing"])[-1].strip()[:300] + f" (see {self._log_path})"


@contextlib.asynccontextmanager
async def running_member(
    runtime: JavaRuntime,
    *,
    address: str,
    members: Sequence[str],
    cluster_name: str,
    heap_mb: int,
    log_path: Path,
    keep_s: int = 3_600,
    options: Sequence[str] = (),
) -> AsyncIterator[MemberProcess]:
    """Start a member at `address` (host:port) in the cluster of `members`; stop it at the end of the block.

    It may not serve yet when the block begins: see `MemberProcess.started`. The map keeps a message for `keep_s`
    seconds. `options` are further options for Java.

    Raises:
        FatalError: Java cannot be run, or the log file cannot be written.
    """
    for warning in exposure.of_member(address):
        log.warning(warning)
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log_path.unlink(missing_ok=True)
        with log_path.open("ab") as output:  # appending, so that logrotate may truncate it
            process = await asyncio.create_subprocess_exec(
                *runtime.command(*_options(runtime, address, members, cluster_name, keep_s), *options, heap_mb=heap_mb),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
                start_new_session=True,  # Ctrl-C in a terminal signals only the node, which then stops the member
                preexec_fn=dying_with_this(),
            )
    except OSError as error:
        raise FatalError(f"cannot start a Hazelcast member: {error}") from error
    member = MemberProcess(process, address, log_path)
    try:
        yield member
    finally:
        await member.stop()


def read_health(address: str) -> MemberHealth | None:
    """Ask the member at host:port for its health; None if it does not answer yet."""
    host, port = split(address)
    connection = http.client.HTTPConnection(host, port, timeout=HEALTH_S)
    try:
        connection.request("GET", "/hazelcast/health")
        return msgspec.json.decode(connection.getresponse().read(), type=MemberHealth)
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    finally:
        connection.close()


def _options(runtime: JavaRuntime, address: str, members: Sequence[str], cluster_name: str, keep_s: int) -> list[str]:
    host, port = split(address)
    archive = [f"-XX:SharedArchiveFile={runtime.archive}"] if runtime.archive.is_file() else []
    protocols = ["-Dhazelcast.prefer.ipv4.stack=false"] if ":" in host else []
    return [
        *archive,
        *protocols,
        f"-Dhazelcast.config={CONFIGURATION}",
        f"-Dthreefold.cluster={cluster_name}",
        f"-Dthreefold.host={host}",
        f"-Dthreefold.address={address}",
        f"-Dthreefold.port={port}",
        f"-Dthreefold.members={','.join(members)}",
        f"-Dthreefold.keep_s={keep_s}",
    ]

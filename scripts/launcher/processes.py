"""The processes of one cluster, recorded in a file so that later commands find them."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from common.errors import FatalError

ROOT = Path(__file__).parents[2]  # the checkout, or the folder in which pip installed the packages
END_S = 25.0  # wait after a signal: a node drains for at most 5 s, and its member leaves within 15 s
TOLERANCE_S = 1.0  # of a start time; on systems without /proc it is computed from a clock that may be set
COMMAND_S = 10.0  # timeout of a system command
POLL_S = 0.03  # between two checks of a process

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # another text after each start of the machine; see random(4)

_START_TICKS = 19  # of the fields in /proc/PID/stat after the name: field 22 of proc(5)


class _Started(msgspec.Struct, frozen=True):
    """A process that was started here; `created` (see `started_at`) tells it from a later one with the same pid."""

    pid: int
    created: float


class _Record(msgspec.Struct, frozen=True):
    """The content of the file: the engine of the cluster, its processes by name, and the boot they were started in."""

    engine: str
    started: dict[str, _Started]
    boot: str = ""


class Processes:
    """Starts processes and finds them again.

    Args:
        directory: the folder of the file and the logs.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "processes.json"
        self._children: dict[str, subprocess.Popen[bytes]] = {}  # started by this object; they have to be reaped

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        engine: str,
        environ: Mapping[str, str] = os.environ,
        within: Sequence[str] = (),
    ) -> None:
        """Start `python -m arguments` in the background, with its own log; it outlives this process.

        `environ` is its environment. `within` is a command prefix that runs it elsewhere, for example on another host.
        """
        path = self.log_path(name)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with open(path, "ab", opener=_private) as output:
                child = subprocess.Popen(
                    [*within, sys.executable, "-E", "-m", *arguments],  # -E: no PYTHON… variable changes it
                    cwd=ROOT,
                    env=dict(environ),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            raise FatalError(f"cannot start {name} with its log in {path}: {error.strerror}") from error
        self._reap()
        self._children[name] = child
        self._remember(name, child.pid, engine)

    def find(self, name: str) -> psutil.Process | None:
        """The process that was started under a name; None if it does not run."""
        record = self._record()
        started = record.started.get(name) if record else None
        return _running(started) if started else None

    def engine(self) -> str | None:
        """The engine of the cluster; None if none of its processes runs."""
        record = self._record()
        return record.engine if record and any(map(_running, record.started.values())) else None

    def names(self) -> list[str]:
        """The names of the processes that run, in the order in which they were started."""
        record = self._record()
        return [name for name, started in record.started.items() if _running(started)] if record else []

    def forget(self) -> None:
        """Remove the file; call it when all processes have ended."""
        self._reap()
        self._file.unlink(missing_ok=True)

    def log_path(self, name: str) -> Path:
        """The path of the log of a process."""
        return self._directory / "logs" / f"{name}.log"

    def last_line(self, name: str) -> str:
        """The last line and path of a log, and the exit status if the process ended (negative: of a signal)."""
        path = self.log_path(name)
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        status = self._children[name].poll() if name in self._children else None
        ended = "" if status is None else f"exit status {status}, "
        return f"{lines[-1] if lines else 'it wrote nothing'} ({ended}see {path})"

    def _remember(self, name: str, pid: int, engine: str) -> None:
        """Add a process to the file."""
        record = self._record() or _Record(engine, {})
        started = record.started | {name: _Started(pid, started_at(psutil.Process(pid)))}
        draft = self._file.with_suffix(".new")
        with open(draft, "wb", opener=_private) as file:
            file.write(msgspec.json.encode(_Record(engine, started, _boot_id())))
        draft.replace(self._file)

    def _reap(self) -> None:
        for child in self._children.values():
            child.poll()

    def _record(self) -> _Record | None:
        try:
            record = msgspec.json.decode(self._file.read_bytes(), type=_Record)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise FatalError(f"{self._file} is damaged ({error}): end the processes by hand and remove it") from error
        return record if record.boot == _boot_id() else None  # another boot ended all processes


def end(processes: Sequence[psutil.Process], how: Callable[[psutil.Process], None]) -> None:
    """Signal all processes with `how`, then wait until they are gone, at most END_S."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            how(process)
    wait_until(lambda: all(gone(process) for process in processes), END_S)


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Check a condition every POLL_S until it holds, for at most `timeout_s`; True if it held."""
    ends_s = clock() + timeout_s
    while not condition():
        if clock() > ends_s:
            return False
        sleep(POLL_S)
    return True


def run_command(*command: str, text: str = "") -> None:
    """Run a system command with `text` as its input.

    Raises:
        FatalError: the command is not installed, fails, or takes more than COMMAND_S.
    """
    try:
        subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=COMMAND_S)
    except FileNotFoundError as error:
        raise FatalError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise FatalError(f"{' '.join(command)}: not done in {COMMAND_S} s") from error
    except subprocess.CalledProcessError as error:
        raise FatalError(f"{' '.join(command)}: {error.stderr.strip()}") from error


def gone(process: psutil.Process) -> bool:
    """True if a process has ended; a zombie counts as ended only if no other thread of it is left.

    While other threads end, the first one is a zombie already, but it cannot be reaped and its ports are still taken.
    """
    try:
        return not process.is_running() or (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() == 1)
    except psutil.NoSuchProcess:
        return True


def _running(started: _Started) -> psutil.Process | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(started.pid)
        if abs(started_at(process) - started.created) < TOLERANCE_S and not gone(process):
            return process
    return None


def started_at(process: psutil.Process) -> float:
    """When a process started: on Linux in seconds since the boot, which a step of the system's clock does not move.

    Raises:
        psutil.NoSuchProcess: it has ended.
    """
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError) as error:
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(process.pid) from error
        return float(process.create_time())
    return int(fields[_START_TICKS]) / os.sysconf("SC_CLK_TCK")


def _boot_id() -> str:
    """The id of this boot of the machine; "" where there is no /proc."""
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


def _private(path: str, flags: int) -> int:
    """An `opener`: a new file is readable by its owner only."""
    return os.open(path, flags, 0o600)

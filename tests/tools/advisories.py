"""`python -m tests.tools.advisories FILE…`: finds known vulnerabilities of pinned packages with pip-audit."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

AUDIT_S = 300.0  # for one file; long, because pip-audit retries a source that does not answer for each package


@dataclass(frozen=True, slots=True)
class Found:
    """The result of auditing one lock file.

    Attributes:
        checked: how many packages were checked.
        unknown: "name: reason" of each package that could not be checked.
        holes: "name version: advisory, fixed in …" of each known vulnerability.
    """

    checked: int
    unknown: tuple[str, ...]
    holes: tuple[str, ...]


@click.command()
@click.argument("files", nargs=-1, required=True)
def main(files: Sequence[str]) -> None:
    """Exit with 1 if a package has a known vulnerability."""
    holes = 0
    for file in files:
        found = read(_audited(file))
        click.echo(f"{file}: {found.checked} packages checked, {len(found.holes)} known vulnerabilities")
        for hole in found.holes:
            click.echo(f"  {hole}")
        if found.unknown:
            click.echo(
                f"  NOT CHECKED, the source of advisories gave no answer: {len(found.unknown)} packages, such as"
            )
            click.echo(f"  {found.unknown[0]}")
        holes += len(found.holes)
    sys.exit(1 if holes else 0)


def read(output: str) -> Found:
    """Parse the JSON output of pip-audit; any other output counts as nothing checked."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Found(0, (f"pip-audit itself: {output.strip()[-300:] or 'no output'}",), ())
    asked = [package for package in packages if "vulns" in package and "skip_reason" not in package]
    return Found(
        checked=len(asked),
        unknown=tuple(f"{one['name']}: {one['skip_reason']}" for one in packages if "skip_reason" in one),
        holes=tuple(
            f"{package['name']} {package['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or '-'}"
            for package in asked
            for hole in package["vulns"]
        ),
    )


def _audited(file: str) -> str:
    """The output of pip-audit for a lock file, or its error output if there is none."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [*command, "--require-hashes", "--disable-pip", "--requirement", file],
            capture_output=True,
            text=True,
            timeout=AUDIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {AUDIT_S:.0f} s"
    return done.stdout or done.stderr


if __name__ == "__main__":
    main()

"""`python -m tests.fuzz.frames.coverage_guided`: fuzzes the decoders, guided by the branches that inputs reach."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from scripts.launcher.processes import ROOT
from tests.fuzz import corpus
from tests.fuzz.frames import frames
from tests.fuzz.outcome import Outcome

EXAMPLES = 100  # valid frames in the initial corpus
LONGEST_BYTES = 4_096  # of one input; longer lists reach no new code
START_S = 60.0  # allowed for the start and the end of the process, beyond the fuzzing time
UNIT_S = 10  # for one input, after which it counts as a hang

HARNESS = "tests.fuzz.frames.harness"


@click.command()
@click.option("--seconds", default=60, show_default=True, help="Length of the run.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same inputs.")
def main(seconds: int, seed: int) -> None:
    """Search for frames that break the decoders; exit with 1 if one is found."""
    outcome = run(seconds=seconds, seed=seed)
    click.echo(outcome.figures())
    for finding in outcome.findings:
        click.echo(finding)
    sys.exit(bool(outcome.findings))


def run(*, seconds: int, seed: int, harness: str = HARNESS) -> Outcome:
    """Run atheris for some seconds on a temporary corpus, which begins with valid frames."""
    outcome = Outcome("coverage-guided", 0)
    with tempfile.TemporaryDirectory() as folder:
        initial = Path(folder, "corpus")
        initial.mkdir()
        for number, frame in enumerate(corpus.examples(frames.valid_frames(), EXAMPLES, seed)):
            (initial / str(number)).write_bytes(frame)
        flags = (
            *(f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST_BYTES}", f"-timeout={UNIT_S}"),
            *(f"-artifact_prefix={folder}/found-", "-print_final_stats=1", str(initial)),
        )
        ended = _atheris(harness, flags, seconds)
        _read(ended, sorted(Path(folder).glob("found-*")), outcome)
    return outcome.done()


def _atheris(harness: str, flags: Sequence[str], seconds: int) -> subprocess.CompletedProcess[str]:
    """Run atheris without coverage measurement, because both instrument the same bytecode."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        [sys.executable, "-m", harness, *flags],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=seconds + START_S,
    )


def _read(ended: subprocess.CompletedProcess[str], artifacts: Sequence[Path], outcome: Outcome) -> None:
    """Add the statistics that atheris printed, and the inputs that it saved as failures, to the outcome."""
    for name, pattern in (
        ("sent", r"number_of_executed_units: +(\d+)"),
        ("edges", r"DONE +cov: (\d+)"),
        ("peak_rss_mb", r"peak_rss_mb: +(\d+)"),
    ):
        if found := re.findall(pattern, ended.stderr):
            outcome.counts[name] = int(found[-1])
    raised = re.search(r"(?m)^ === Uncaught Python exception: ===\n(.+)$", ended.stdout + ended.stderr)
    for artifact in artifacts:
        outcome.found(raised[1] if raised else artifact.name, artifact.read_bytes())
    if ended.returncode and not artifacts:
        outcome.found(f"atheris ended with {ended.returncode}: {ended.stderr[-2_000:]}", b"")


if __name__ == "__main__":
    main()

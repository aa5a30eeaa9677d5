"""`python -m tests.fuzz.run`: fuzzes a cluster of its own with requests and frames, and the decoders by coverage."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from scripts.launcher.cluster import Cluster
from tests.fuzz import corpus, watched
from tests.fuzz.frames import coverage_guided, frame_phase, frames
from tests.fuzz.http import http_phase, second_opinion
from tests.fuzz.http.schema_requests import http_requests
from tests.fuzz.outcome import FINDINGS, Outcome
from tests.support.clusters import running_cluster

REAL = 0.2  # share of the frames that go to real servers; the rest is decoded in this process, which is faster
REAL_LEAST = 100_000  # frames that go to real servers at least


@dataclass(frozen=True, slots=True)
class FuzzPlan:
    """The size of each phase of a run.

    Attributes:
        seed: of all random choices.
        http: number of requests to the facade.
        read: number of requests that the facade's parser and h11 parse in this process.
        frames: number of frames to real servers.
        decoded: number of frames that are decoded in this process.
        coverage_s: length of the coverage-guided run in seconds; 0 for none.
        examples: how many examples hypothesis generates for each phase; all other inputs are mutations of them.
        hang_s: seconds without an answer that count as a hang.
    """

    seed: int
    http: int
    read: int
    frames: int
    decoded: int
    coverage_s: int
    examples: int = 2_000
    hang_s: float = http_phase.HANG_S


@dataclass(frozen=True, slots=True)
class FuzzResult:
    """The outcome of each phase by name, and the resources of each process before and after."""

    plan: FuzzPlan
    outcomes: dict[str, Outcome]
    processes: dict[str, Any]

    @property
    def findings(self) -> list[str]:
        """The first FINDINGS findings of all phases, as text."""
        return [str(one) for outcome in self.outcomes.values() for one in outcome.findings][:FINDINGS]

    def document(self) -> dict[str, Any]:
        """All figures, for a report as JSON."""
        phases = {name: outcome.figures() for name, outcome in self.outcomes.items()}
        return {"seed": self.plan.seed, **phases, "processes": self.processes}


@click.command()
@click.option("--http", default=200_000, show_default=True, help="Requests to the facade.")
@click.option("--frames", "count", default=1_000_000, show_default=True, help="Frames, some of them to real servers.")
@click.option(
    "--seconds-of-coverage", default=300, show_default=True, help="Length of the coverage-guided run; 0 for none."
)
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same inputs.")
@click.option("--engine", type=click.Choice(["embedded", "hazelcast"]), default="embedded", show_default=True)
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="JSON file for all figures.")
def main(http: int, count: int, seconds_of_coverage: int, seed: int, engine: str, report: Path | None) -> None:
    """Fuzz a cluster that is started for this run; exit with 1 if there are findings."""
    real = min(count, max(REAL_LEAST, int(REAL * count)))
    plan = FuzzPlan(seed=seed, http=http, read=http, frames=real, decoded=count - real, coverage_s=seconds_of_coverage)
    with tempfile.TemporaryDirectory() as folder, running_cluster(Path(folder), engine=engine) as cluster:
        result = on_cluster(cluster, plan)
    shown = msgspec.json.format(msgspec.json.encode(result.document()), indent=2)
    click.echo(shown.decode())
    if report:
        report.write_bytes(shown + b"\n")
    for finding in result.findings:
        click.echo(f"seed {seed}, {finding}", err=True)
    sys.exit(bool(result.findings))


def on_cluster(cluster: Cluster, plan: FuzzPlan) -> FuzzResult:
    """Run all phases one after the other, and check that the cluster is still healthy."""
    settings, seed = cluster.settings, plan.seed
    servers = (
        *settings.service_ips.logging_service[:2],
        *(settings.registry.addresses[0], settings.service_ips.messages_service[0]),
    )
    requests = corpus.examples(http_requests(), plan.examples, seed)
    made = corpus.examples(frames.frames(), plan.examples, seed)
    before = watched.held(cluster)
    outcomes = {
        "http": http_phase.run(settings.facade.address, requests, count=plan.http, seed=seed, hang_s=plan.hang_s),
        "second opinion": second_opinion.run(requests, count=plan.read, seed=seed),
        "frames": frame_phase.run(
            servers, made, count=plan.frames, seed=seed, hang_s=plan.hang_s, first=frames.KNOWN_NAMES
        ),
        "decoded": frame_phase.decode(made, count=plan.decoded, seed=seed),
        "cluster": watched.look(cluster, before),
    }
    processes = watched.compared(before, watched.held(cluster))
    if plan.coverage_s:
        outcomes["coverage"] = coverage_guided.run(seconds=plan.coverage_s, seed=seed)
    return FuzzResult(plan, outcomes, processes)


if __name__ == "__main__":
    main()

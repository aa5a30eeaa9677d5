"""`python -m tests.fuzz.run`: requests, frames and a coverage-guided run against a cluster of its own."""

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

REAL = 0.2  # of the frames go to real servers, at least REAL_LEAST; the rest is decoded in this process
REAL_LEAST = 100_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is sent, and of what.

    Attributes:
        http: requests.
        read: requests that our parser and another one read in this process.
        frames: to real servers.
        decoded: frames that are decoded in this process.
        coverage_s: of the coverage-guided run, in seconds.
        examples: that hypothesis makes of each; the rest is made of these.
        hang_s: without an answer, in seconds: then it is a finding.
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
class Result:
    """What came of each phase, and what the processes held before and after."""

    plan: Plan
    outcomes: dict[str, Outcome]
    processes: dict[str, Any]

    @property
    def findings(self) -> list[str]:
        """The first FINDINGS of them, for a person."""
        return [str(one) for outcome in self.outcomes.values() for one in outcome.findings][:FINDINGS]

    def document(self) -> dict[str, Any]:
        """For a report."""
        phases = {name: outcome.figures() for name, outcome in self.outcomes.items()}
        return {"seed": self.plan.seed, **phases, "processes": self.processes}


@click.command()
@click.option("--http", default=200_000, show_default=True, help="Requests to the facade.")
@click.option("--frames", "count", default=1_000_000, show_default=True, help="Frames, a part of them to real servers.")
@click.option("--seconds-of-coverage", default=300, show_default=True, help="Of the coverage-guided run; 0 for none.")
@click.option("--seed", default=1, show_default=True, help="The same seed sends the same.")
@click.option("--engine", type=click.Choice(["embedded", "hazelcast"]), default="embedded", show_default=True)
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="A file for all figures, as JSON.")
def main(http: int, count: int, seconds_of_coverage: int, seed: int, engine: str, report: Path | None) -> None:
    """Send what nobody expects to a cluster of its own; exits with 1 when an answer is wrong."""
    real = min(count, max(REAL_LEAST, int(REAL * count)))
    plan = Plan(seed=seed, http=http, read=http, frames=real, decoded=count - real, coverage_s=seconds_of_coverage)
    with tempfile.TemporaryDirectory() as folder, running_cluster(Path(folder), engine=engine) as cluster:
        result = on_cluster(cluster, plan)
    shown = msgspec.json.format(msgspec.json.encode(result.document()), indent=2)
    click.echo(shown.decode())
    if report:
        report.write_bytes(shown + b"\n")
    for finding in result.findings:
        click.echo(f"seed {seed}, {finding}", err=True)
    sys.exit(bool(result.findings))


def on_cluster(cluster: Cluster, plan: Plan) -> Result:
    """All phases, one after the other, and then whether the cluster is still well."""
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
        "frames": frame_phase.run(servers, made, count=plan.frames, seed=seed, hang_s=plan.hang_s),
        "decoded": frame_phase.decode(made, count=plan.decoded, seed=seed),
        "cluster": watched.look(cluster, before),
    }
    processes = watched.compared(before, watched.held(cluster))
    if plan.coverage_s:
        outcomes["coverage"] = coverage_guided.run(seconds=plan.coverage_s, seed=seed)
    return Result(plan, outcomes, processes)


if __name__ == "__main__":
    main()

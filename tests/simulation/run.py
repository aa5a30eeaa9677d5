"""`python -m tests.simulation.run --seeds 300`: runs the simulator with many seeds, and prints those that fail."""

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import click

from tests.simulation.faults import run
from tests.simulation.scenario import SimulationResult

AT_ONCE = 8  # seeds that a worker process gets at a time


def run_all(first: int, seeds: int) -> list[SimulationResult]:
    """The results of `seeds` consecutive seeds from `first` on, in their order; uses all cores."""
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        return list(processes.map(run, range(first, first + seeds), chunksize=AT_ONCE))


@click.command()
@click.option("--seeds", default=300, show_default=True, help="Number of runs.")
@click.option("--first", default=0, show_default=True, help="The first seed; use --seeds 1 to replay one run.")
def main(seeds: int, first: int) -> None:
    """Run the simulator; exit with 1 if a promise was broken."""
    began_s = time.monotonic()
    results = run_all(first, seeds)
    broken = [result for result in results if result.problems]
    for result in broken:
        click.echo(f"seed {result.seed}: {'; '.join(result.problems)}")
        click.echo(f"  after {'; '.join(result.faults)}")
    click.echo(
        f"{len(broken)} of {seeds} runs broke a promise; {sum(result.acknowledged for result in results)} writes "
        f"acknowledged, {sum(result.reads for result in results)} whole reads, {time.monotonic() - began_s:.0f} s"
    )
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()

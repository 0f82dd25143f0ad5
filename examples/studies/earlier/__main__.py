"""Twelve losses, five seeds, three tasks: `python -m studies.earlier`, from the folder `examples`.

Runs that the results file holds already are not repeated, so that the study can be stopped and
started again. `--table` trains nothing: it prints what the results file holds.
"""

from pathlib import Path

import tyro

from studies import records
from studies.earlier import report, runs

STEPS = {"water": 600, "brain": 300, "land-cover": 300}


def main(
    steps: int | None = None,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    losses: tuple[runs.LossName, ...] = (*runs.OTHERS, *runs.RMI),  # pyright: ignore
    tasks: tuple[runs.Task, ...] = ("water", "brain", "land-cover"),
    results: Path = runs.STUDY,
    picture: Path = Path("outputs/study.png"),
    table: bool = False,
) -> None:
    """Trains a small U-Net with every loss, task and seed, and compares them.

    Args:
        steps: training steps of each run; by default 600 on water and 300 on the other tasks.
        seeds: for the initial weights and the batches, the same for each loss.
        losses: which losses to train with.
        tasks: water and land-cover are satellite imagery, brain is slices of the MNI152 template.
        results: the file to which each run adds a line, and from which the table is made.
        picture: where to draw the results.
        table: train nothing, only report the runs of that many steps that the file holds.
    """
    if steps is not None and steps < 1:
        raise SystemExit("--steps must be at least 1")
    steps_of: dict[runs.Task, int] = {task: steps or STEPS[task] for task in tasks}
    if not table:
        for task, number in steps_of.items():
            objectives = {name: runs.objective(name, number) for name in losses}
            runs.fill(results, [task], seeds, objectives, steps=number)
    found = [r for r in records.read_file(results) if r["steps"] == steps_of.get(r["task"])]
    if not found:
        raise SystemExit(f"no runs of these steps in {results}; without --table they are made")
    report.print_tables(found)
    report.draw(found, picture)


if __name__ == "__main__":
    report.headless()
    tyro.cli(main)

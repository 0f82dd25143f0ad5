"""The command line of the studies: `python -m studies --help`."""

from pathlib import Path

import tyro

from studies import campaign, data, records, report, trainer

RESULTS = Path(__file__).parent / "results"
STEPS = {"isbi": 1200, "drive": 1200, "water": 1200, "camvid": 10000, "land-cover": 1200,
         "brain": 600}  # fmt: skip


def main(
    tasks: tuple[data.TaskName, ...] = ("isbi", "drive", "water"),
    losses: tuple[str, ...] = campaign.FIRST,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    rates: tuple[float, ...] = campaign.RATES,
    steps: int | None = None,
    root: Path | None = None,
    results: Path = RESULTS,
    table: bool = False,
    plot: Path | None = None,
) -> None:
    """Trains a U-Net with every loss, task and seed that the records lack.

    Args:
        tasks: one after the other.
        losses: names of `losses.py`.
        seeds: for the weights and the batches, the same for each loss.
        rates: learning rates to choose from, on the validation part with seed 0.
        steps: of each run; by default 1200, 10000 on CamVid and 600 on brain slices.
        root: folder with the folders `isbi`, `drive` and `camvid`.
        results: folder of the records, one file a task.
        table: train nothing, print what the records of these tasks say.
        plot: train nothing, draw the validation curves of these tasks to this file.
    """
    if table or plot:
        runs = records.read(results)
        if table:
            report.print_tables(runs, tasks)
        if plot:
            report.plot(runs, tasks, plot)
        return
    made_with = records.circumstances()  # now: the code is what was imported
    for name in tasks:
        task = data.load(name, root)
        base = trainer.Settings(name, "", steps or STEPS[name])
        runs = records.read(results)
        for settings in campaign.plan(runs, base, losses, seeds, rates):
            record = {**trainer.train(settings, task), **made_with}
            records.append(record, results / f"{name}.jsonl")
            runs.append(record)


if __name__ == "__main__":
    tyro.cli(main)

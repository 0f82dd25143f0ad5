"""The command line of the studies: `python -m studies --help`."""

from pathlib import Path

import tyro

from studies import campaign, contestants, data, rare, records, report, trainer

RESULTS = Path(__file__).parent / "results"
STEPS = {"isbi": 3000, "drive": 3000, "water": 3000, "camvid": 10000, "camvid-half": 3000,
         "land-cover": 3000, "brain": 600}  # fmt: skip


def main(
    tasks: tuple[data.TaskName, ...] = ("isbi", "drive", "water"),
    losses: tuple[str, ...] = ("first",),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    rates: tuple[float, ...] = campaign.RATES,
    steps: int | None = None,
    widths: tuple[int, ...] = (16, 32, 64),
    crop: int = 64,
    fold: int = 0,
    foreground: float | None = None,
    root: Path | None = None,
    results: Path = RESULTS,
    table: bool = False,
    part: report.Part = "test",
    against: str | None = None,
    plot: Path | None = None,
) -> None:
    """Trains a U-Net with every loss, task and seed that the records lack.

    Args:
        tasks: trained one after the other.
        losses: names or groups of `contestants.py`, as first, second or doses.
        seeds: for the weights and the batches, the same for each loss.
        rates: learning rates to choose from, on the validation part with seed 0.
        steps: of each run; by default 3000, 10000 on CamVid and 600 on brain slices.
        widths: of the U-Net, one a level.
        crop: side of the crops that it is trained on, in pixels.
        fold: which parts of isbi are for testing, 0 to 2.
        foreground: keep vessels or lakes only up to this share of the pixels (drive and water).
        root: folder with the folders `isbi`, `drive` and `camvid`.
        results: folder of the records, one file a task.
        table: train nothing, print what the records of these tasks, losses and rates say.
        part: whose scores the tables show; settings are compared on the validation part.
        against: the loss to compare with in the tables, in place of the best baseline.
        plot: train nothing, draw the validation curves of these tasks, losses and rates, at these
            steps, widths, crops and foreground, to this file.
    """
    names = contestants.named(losses)

    def base(name: data.TaskName) -> trainer.Settings:
        return trainer.Settings(
            *(name, "", steps or STEPS[name]),
            fold=fold,
            foreground=foreground,
            widths=widths,
            crop=crop,
        )

    if table or plot:
        if against in contestants.GROUPS:
            raise SystemExit(f"--against takes one loss, not the group {against}")
        if against is not None:
            names = contestants.named((*names, against))
        runs = [
            run
            for run in records.read(results)
            if (s := trainer.settings_of(run)).loss in names and s.rate in rates and s.task in tasks
        ]
        if not runs:
            raise SystemExit("no such runs: see --tasks, --losses and --rates")
        if table:
            report.print_tables(runs, tasks, part, against)
        if plot:
            wanted = {trainer.setup(base(name)) for name in tasks}
            shown = [run for run in runs if trainer.setup(trainer.settings_of(run)) in wanted]
            if not shown:
                raise SystemExit("no such runs: see --steps, --widths, --crop and --foreground")
            report.plot(shown, tasks, plot)
        return
    made_with = records.circumstances()  # now: the code is what was imported
    for name in tasks:
        task = data.load(name, root, fold=fold)
        if foreground is not None:
            task = rare.thin(task, foreground)
        runs = records.read(results)
        for settings in campaign.plan(runs, base(name), names, seeds, rates):
            record = {**trainer.train(settings, task), **made_with}
            records.append(record, results / f"{name}.jsonl")
            runs.append(record)


if __name__ == "__main__":
    tyro.cli(main)

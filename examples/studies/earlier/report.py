"""Tables and a plot of the recorded runs."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from segmentation import figures
from studies.earlier.runs import STUDY
from studies.records import read_file

TITLES = {
    "softmax": "softmax CE",
    "sigmoid": "sigmoid CE",
    "dice": "softmax CE + Dice",
    "rmi-4": "RMI, factor 4",
    "rmi-2": "RMI, factor 2",
    "rmi-1": "RMI, factor 1",
    "softmax-rmi-4": "softmax RMI, factor 4",
    "softmax-rmi-2": "softmax RMI, factor 2",
    "softmax-rmi-1": "softmax RMI, factor 1",
    "softmax-rmi-cascade": "softmax RMI, factor (1, 2, 4)",
    "rmi-2-late": "RMI, factor 2, late",
    "softmax-rmi-1-late": "softmax RMI, factor 1, late",
}
BASELINES = ("softmax", "sigmoid")
SCORES = {"miou": "mIoU, %", "boundary_f1": "boundary F1, %"}


def headless() -> None:
    matplotlib.use("agg")


def print_beside_the_study(results: Path, steps: int) -> None:
    """Runs on water from a file, with those of the study that they are to be compared with."""
    runs = read_file(results)
    seeds = {r["seed"] for r in runs}
    same = [r for r in read_file(STUDY) if r["loss"] in (*BASELINES, "softmax-rmi-1", "rmi-4")]
    print_tables([
        r
        for r in (*same, *runs)
        if (r["task"], r["steps"]) == ("water", steps) and r["seed"] in seeds
    ])  # fmt: skip


def values(runs: list[dict], task: str, loss: str, score: str) -> dict[int, float]:
    """The score by seed."""
    return {r["seed"]: r[score] for r in runs if (r["task"], r["loss"]) == (task, loss)}


def mean_and_error(numbers: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error, NaN for fewer than two numbers."""
    error = numbers.std(ddof=1) / len(numbers) ** 0.5 if len(numbers) > 1 else np.nan
    return float(numbers.mean()), float(error)


def with_error(numbers: np.ndarray, sign: str = "") -> str:
    mean, error = mean_and_error(numbers)
    return f"{mean:{sign}.1f}" + ("" if np.isnan(error) else f" ± {error:.1f}")


def differences(mine: dict[int, float], others: dict[int, float]) -> np.ndarray:
    """By how much a loss is ahead of another on the seeds that both have."""
    return np.array([mine[seed] - others[seed] for seed in sorted(mine.keys() & others.keys())])


def compare(mine: dict[int, float], others: dict[int, float]) -> str:
    """Mean paired difference, its standard error, and on how many seeds it is a gain."""
    pairs = differences(mine, others)
    if not len(pairs):
        return "-"
    return f"{with_error(pairs, '+')} ({(pairs > 0).sum()}/{len(pairs)})"


def rows(runs: list[dict], task: str) -> list[list[str]]:
    lines = []
    for loss in dict.fromkeys([*TITLES, *(r["loss"] for r in runs)]):
        mine = [r for r in runs if (r["task"], r["loss"]) == (task, loss)]
        if not mine:
            continue
        cells = [TITLES.get(loss, loss), str(len(mine))]
        for score in SCORES:
            by_seed = values(runs, task, loss, score)
            cells.append(with_error(np.array(list(by_seed.values()))))
            for baseline in BASELINES if score == "miou" else BASELINES[:1]:
                others = values(runs, task, baseline, score)
                cells.append("" if loss == baseline else compare(by_seed, others))
        dead = sorted({c for r in mine for c in r["dead"]})
        counts = [f"{c} {sum(c in r['dead'] for r in mine)}" for c in dead]
        cells.append(", ".join(counts) or "-")
        lines.append(cells)
    return lines


HEADINGS = (
    "loss", "seeds", "mIoU, %", "against softmax CE", "against sigmoid CE",
    "boundary F1, %", "against softmax CE", "dead classes",
)  # fmt: skip


def print_tables(runs: list[dict]) -> None:
    """As Markdown, to be pasted into the documentation."""
    console = Console(soft_wrap=True, markup=False, highlight=False)
    for task in dict.fromkeys(r["task"] for r in runs):
        lines = rows(runs, task)
        (steps,) = {r["steps"] for r in runs if r["task"] == task}
        console.print(f"\n{task}, {steps} steps\n")
        for cells in (HEADINGS, ("---", *["--:"] * (len(HEADINGS) - 1)), *lines):
            console.print("| " + " | ".join(cells) + " |")


def draw(runs: list[dict], picture: Path) -> None:
    """Paired differences to softmax cross entropy: a dot per seed, the mean, its standard error."""
    tasks = list(dict.fromkeys(r["task"] for r in runs))
    present = {r["loss"] for r in runs} - {"softmax"}
    losses = [name for name in TITLES if name in present]
    figure, axes = plt.subplots(
        len(SCORES), len(tasks), figsize=(3.1 * len(tasks) + 1.8, 5.4), sharey=True, squeeze=False
    )
    for axes_of_score, (score, heading) in zip(axes, SCORES.items(), strict=True):
        for axis, task in zip(axes_of_score, tasks, strict=True):
            base = values(runs, task, "softmax", score)
            axis.axvline(0, color="0.6", linewidth=1)
            for row, loss in enumerate(losses):
                pairs = differences(values(runs, task, loss, score), base)
                if not len(pairs):
                    continue
                colour = "tab:blue" if "rmi" in loss else "0.35"
                axis.plot(pairs, np.full(len(pairs), row), ".", color=colour, alpha=0.45)
                mean, error = mean_and_error(pairs)
                axis.errorbar(mean, row, xerr=error, fmt="D", markersize=5, capsize=3, color=colour)
            axis.set_title(f"{task}: {heading.split(',')[0]}", fontsize=9)
            axis.grid(axis="x", alpha=0.25)
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(losses)), [TITLES[name] for name in losses], fontsize=8)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("points ahead of softmax cross entropy, same seed", fontsize=9)
    figure.tight_layout(pad=0.6)
    figures.save(figure, picture)

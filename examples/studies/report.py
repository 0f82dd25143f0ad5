"""What the records say: tables in Markdown, and curves."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

from segmentation import figures
from studies.campaign import tuned_rate
from studies.contestants import BASELINES, TITLES
from studies.trainer import Settings, settings_of, setup

Run = dict[str, Any]
Part = Literal["test", "validation"]
Observations = Mapping[int, float]  # by seed; by fold where there are several


class Score(NamedTuple):
    name: str
    title: str
    sign: int = 1  # -1 where less is better


SCORES = (
    Score("miou", "mIoU"),
    Score("image_iou", "image IoU"),
    Score("boundary_f1", "boundary F1"),
    Score("vi", "VI, bits", -1),
    Score("rand_error", "Rand error", -1),
)


def setups(runs: Iterable[Run], tasks: Sequence[str]) -> list[Settings]:
    """What there is a table of: task, length, network."""
    found = {setup(settings_of(r)) for r in runs if r["settings"]["task"] in tasks}
    return sorted(
        found, key=lambda s: (tasks.index(s.task), -(s.foreground or 1), s.widths, s.steps)
    )


def described(s: Settings) -> str:
    widths = "-".join(map(str, s.widths))
    task = s.task if s.foreground is None else f"{s.task} with {100 * s.foreground:g} % foreground"
    return f"{task}, {s.steps} steps of {s.batch} crops of {s.crop} pixels, U-Net {widths}"


def chosen_runs(runs: Iterable[Run], wanted: Settings) -> dict[str, list[Run]]:
    """Of each loss the runs at its tuned learning rate, in the order of `TITLES`."""
    runs = [r for r in runs if setup(settings_of(r)) == wanted]
    names = {r["settings"]["loss"] for r in runs}
    chosen = {}
    for name in sorted(names, key=list(TITLES).index):
        rate = tuned_rate(runs, replace(wanted, loss=name))
        chosen[name] = [
            r for r in runs if (r["settings"]["loss"], r["settings"]["rate"]) == (name, rate)
        ]
    return {name: group for name, group in chosen.items() if group}


def observations(values: Iterable[tuple[Settings, float]]) -> Observations:
    """By seed, or the means of folds, since the seeds of a fold share its test pictures."""
    values = list(values)
    several = len({s.fold for s, _ in values}) > 1
    groups = defaultdict(list)
    for settings, value in values:
        groups[settings.fold if several else settings.seed].append(value)
    return {key: float(np.mean(group)) for key, group in groups.items()}


def scored(runs: Sequence[Run], score: str, part: Part = "test") -> Observations:
    return observations((settings_of(r), r[part][score]) for r in runs if score in r[part])


class Difference(NamedTuple):
    mean: float
    error: float  # standard error of the mean, NaN for one pair
    p: float  # of a two-sided paired t test, NaN for one pair
    pairs: int


def paired(ours: Observations, theirs: Observations) -> Difference:
    """The difference over the seeds (folds) that both have."""
    both = sorted(set(ours) & set(theirs))
    differences = np.array([ours[key] - theirs[key] for key in both])
    if len(both) < 2:
        return Difference(float(differences.mean()) if both else np.nan, np.nan, np.nan, len(both))
    error = differences.std(ddof=1) / np.sqrt(len(both))
    p = stats.ttest_rel([ours[k] for k in both], [theirs[k] for k in both]).pvalue
    return Difference(float(differences.mean()), float(error), float(p), len(both))


def steps_to(curve: Sequence[Sequence[float]], goal: float) -> float:
    """The step at which the curve first reaches the goal, between its points, or NaN."""
    before = None
    for step, _, value in curve:
        if value >= goal:
            if before is None:
                return step
            share = (goal - before[1]) / (value - before[1])
            return before[0] + share * (step - before[0])
        before = (step, value)
    return np.nan


def best_baseline(
    chosen: Mapping[str, Sequence[Run]], score: Score, part: Part = "test"
) -> str | None:
    """The baseline to beat: the best mean on the part shown, which favours the baselines."""
    means = {
        name: score.sign * np.mean(list(scored(chosen[name], score.name, part).values()))
        for name in BASELINES
        if name in chosen and scored(chosen[name], score.name, part)
    }
    return max(means, key=means.__getitem__) if means else None


def mean_and_error(values: Observations) -> str:
    numbers = np.array(list(values.values()))
    if len(numbers) < 2:
        return f"{numbers.mean():.2f}"
    return f"{numbers.mean():.2f} ± {numbers.std(ddof=1) / np.sqrt(len(numbers)):.2f}"


def difference_text(difference: Difference) -> str:
    if not difference.pairs:
        return "-"
    text = f"{difference.mean:+.2f}"
    if difference.pairs > 1:
        text += f" ± {difference.error:.2f} (p {difference.p:.2g})"
    return text


def table(
    runs: Sequence[Run], wanted: Settings, part: Part = "test", against: str | None = None
) -> str:
    """One row a loss: its scores, differences to the best baseline, steps to reach it.

    ``against``: the loss to compare with in place of the best baseline.
    """
    chosen = chosen_runs(runs, wanted)
    columns = [s for s in SCORES if any(scored(group, s.name, part) for group in chosen.values())]
    rivals = {score: against or best_baseline(chosen, score, part) for score in columns}
    head = ["loss", "rate", "seeds"]
    for score, rival in rivals.items():
        head += [score.title, f"over {TITLES[rival] if rival else '-'}"]
    rows = [[*head, "steps to its mIoU"]]
    for name, group in chosen.items():
        row = [TITLES[name], f"{group[0]['settings']['rate']:g}", str(len(group))]
        for score, rival in rivals.items():
            ours = scored(group, score.name, part)
            row.append(mean_and_error(ours) if ours else "-")
            if rival == name or rival not in chosen:
                row.append("-")
            else:
                theirs = scored(chosen[rival], score.name, part)
                row.append(difference_text(paired(ours, theirs)))
        row.append(steps_text(group, chosen.get(rivals[SCORES[0]] or "", ())))
        rows.append(row)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def steps_text(runs: Sequence[Run], baseline: Sequence[Run]) -> str:
    """Mean number of steps to the baseline's last validation mIoU with the same seed."""
    goals = {(s := settings_of(r)).seed * 100 + s.fold: r["curve"][-1][2] for r in baseline}
    steps = [
        steps_to(r["curve"], goals[key])
        for r in runs
        if (key := (s := settings_of(r)).seed * 100 + s.fold) in goals
    ]
    reached = [s for s in steps if not np.isnan(s)]
    if not reached:
        return "-"
    return f"{np.mean(reached):.0f} ({len(reached)}/{len(steps)})"


def print_tables(
    runs: Sequence[Run], tasks: Sequence[str], part: Part = "test", against: str | None = None
) -> None:
    for wanted in setups(runs, tasks):
        print(f"\n{described(wanted)}. Scores of the {part} part; learning rates were chosen")
        print("on the validation part with seed 0.\n")
        print(table(runs, wanted, part, against))


def plot(runs: Sequence[Run], tasks: Sequence[str], file: Path) -> None:
    """Validation curves, the mean over the seeds; one panel for each task and number of steps."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    panels = setups(runs, tasks)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(6 * len(panels), 4), squeeze=False, layout="constrained"
    )
    colours = dict(zip(TITLES, matplotlib.color_sequences["tab20"], strict=False))
    for axis, wanted in zip(axes[0], panels, strict=True):
        for name, group in chosen_runs(runs, wanted).items():
            curves = np.array([[point[2] for point in r["curve"]] for r in group])
            at = [point[0] for point in group[0]["curve"]]
            style = "--" if name in BASELINES else "-"
            label = f"{TITLES[name]} ({len(group)})"
            axis.plot(at, curves.mean(axis=0), style, color=colours.get(name), label=label)
        axis.set(title=described(wanted), xlabel="step", ylabel="validation mIoU, %")
        axis.legend(fontsize=7)
    figures.save(figure, file)

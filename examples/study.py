"""Does RMI help? Twelve losses, several seeds, three tasks, one JSON line per run.

Every RMI loss here starts after a warm-up on cross entropy alone and has no anchor: the recipe that
this project advised before its defaults changed. `studies/` holds the newer comparison.

For each seed, every loss starts from the same weights and sees the same batches for the same number
of steps. Runs that the results file holds already are not repeated, so that the study can be
stopped and started again. `--table` trains nothing: it prints what the results file holds.
"""

import itertools
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import quickstart
import study_report
import tyro

import rmi_jax
from segmentation import satellite
from segmentation.models.unet import UNet

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "study.jsonl"
KEY = ("task", "loss", "seed", "steps")  # what tells runs apart
DEAD = 5  # IoU in percent under which a class counts as dead

Task = Literal["water", "brain", "land-cover"]
STEPS = {"water": 600, "brain": 300, "land-cover": 300}


# What each RMI loss passes to `rmi_jax.rmi_loss`. The activation, the factor and the anchor are
# written out, so that the records keep their meaning whatever the library's defaults become.
SIGMOID = {"activation": "sigmoid", "anchor": 0.0}
SOFTMAX = {"activation": "softmax", "anchor": 0.0}
RMI = {
    "rmi-4": {"factor": 4, **SIGMOID},  # the paper's setting
    "rmi-2": {"factor": 2, **SIGMOID},
    "rmi-1": {"factor": 1, **SIGMOID},
    "softmax-rmi-1": {"factor": 1, **SOFTMAX},
    "softmax-rmi-cascade": {"factor": (1, 2, 4), **SOFTMAX},
    "softmax-rmi-2": {"factor": 2, **SOFTMAX},
    "softmax-rmi-4": {"factor": 4, **SOFTMAX},
    "rmi-2-late": {"factor": 2, **SIGMOID},
    "softmax-rmi-1-late": {"factor": 1, **SOFTMAX},
}
# Tenths of the steps on cross entropy alone, and from there down to the even mix.
WARMUP = {"rmi-2-late": (6, 1), "softmax-rmi-1-late": (6, 1)}
OTHERS = {
    "softmax": quickstart.softmax_loss,
    "sigmoid": quickstart.sigmoid_loss,
    "dice": quickstart.dice_loss,
}
LossName = Literal[
    "softmax", "sigmoid", "dice", "rmi-4", "rmi-2", "rmi-1",
    "softmax-rmi-1", "softmax-rmi-cascade", "softmax-rmi-2", "softmax-rmi-4",
    "rmi-2-late", "softmax-rmi-1-late",
]  # fmt: skip


def objective(name: LossName, steps: int) -> quickstart.Objective:
    if name in OTHERS:
        return lambda logits, labels, step: OTHERS[name](logits, labels)
    tenths = WARMUP.get(name, (3, 1))
    schedule = rmi_jax.warmup_schedule(*(max(n * steps // 10, 1) for n in tenths))
    return lambda logits, labels, step: rmi_jax.rmi_loss(
        logits, labels, bce_weight=schedule(step), **RMI[name]
    )


def load(task: Task) -> satellite.Data:
    if task == "brain":
        from segmentation import mni152  # here: the other tasks do not need the `brain` extra

        return mni152.slices()
    return satellite.load(task)


def run(
    loss_of: quickstart.Objective, data: satellite.Data, *, steps: int, seed: int, title: str
) -> tuple[UNet, dict[str, Any]]:
    """The trained model and what it scores on the test images."""
    model, seconds = quickstart.train(loss_of, data, steps=steps, seed=seed, title=title)
    scores = quickstart.evaluate(model, data, seconds).scores
    iou = {c: scores[f"IoU {c}, %"] for c in data.classes}
    return model, {
        "miou": scores["mIoU, %"],
        "boundary_f1": scores["boundary F1, %"],
        "iou": iou,
        "dead": [c for c, value in iou.items() if not value >= DEAD],
        "seconds_per_step": seconds,
    }


def circumstances(options: Mapping[str, Any]) -> dict[str, Any]:
    """How, where and with what a run was made."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=HERE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    packages = ("jax", "flax", "optax", "numpy")
    return {
        "settings": {
            "batch": quickstart.BATCH,
            "crop": quickstart.CROP,
            "learning_rate": quickstart.LEARNING_RATE,
            "boundary_tolerance": quickstart.TOLERANCE,
            **options,
        },
        "commit": git.stdout.strip() or "unknown",
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
    }


def append(record: dict, results: Path) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    torn = results.exists() and not results.read_bytes().endswith(b"\n")
    with results.open(
        "a", encoding="utf-8"
    ) as file:  # a torn line, from a run that was stopped, gets its own line
        file.write("\n" * (torn and results.stat().st_size > 0) + json.dumps(record) + "\n")


def fill(
    results: Path,
    tasks: Iterable[Task],
    seeds: Iterable[int],
    objectives: Mapping[str, quickstart.Objective],
    *,
    steps: int,
) -> None:
    """Adds the runs that the results file lacks; seed by seed, so that all losses have the same."""
    done = [{name: r[name] for name in KEY} for r in study_report.read(results)]
    for task in tasks:
        data = None
        for seed, (loss, loss_of) in itertools.product(seeds, objectives.items()):
            key = dict(zip(KEY, (task, loss, seed, steps), strict=True))
            if key in done:
                continue
            data = data or load(task)
            title = f"{task} {seed} {loss}"
            _, scores = run(loss_of, data, steps=steps, seed=seed, title=title)
            append({**key, **scores, **circumstances(RMI.get(loss, {}))}, results)
            jax.clear_caches()  # compiled programs of finished runs would pile up


def main(
    steps: int | None = None,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    losses: tuple[LossName, ...] = (*OTHERS, *RMI),  # pyright: ignore
    tasks: tuple[Task, ...] = ("water", "brain", "land-cover"),
    results: Path = RESULTS,
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
    steps_of = {task: steps or STEPS[task] for task in tasks}
    if not table:
        for task, number in steps_of.items():
            objectives = {name: objective(name, number) for name in losses}
            fill(results, [task], seeds, objectives, steps=number)
    runs = [r for r in study_report.read(results) if r["steps"] == steps_of.get(r["task"])]
    if not runs:
        raise SystemExit(f"no runs of these steps in {results}; without --table they are made")
    study_report.print_tables(runs)
    study_report.draw(runs, picture)


if __name__ == "__main__":
    study_report.headless()
    tyro.cli(main)

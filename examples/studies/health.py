"""Draws a run that goes well and one that fails: `python -m studies.health`.

Both are on water with few lakes: softmax RMI with a small anchor, and sigmoid RMI without one,
where the network never finds them. Drawn are the loss, its two parts, and the normalized mutual
information and slope of every class, always on the same crops.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import tyro
from flax import nnx

import rmi_jax
from segmentation import figures
from studies import contestants, data, rare, records, trainer
from studies.batches import batches

RUNS = {"rmi-0.01": "softmax, anchor 0.01", "sigmoid, anchor 0": "sigmoids, no anchor"}
POINTS = 40


def watched(settings: trainer.Settings, task: data.Task) -> dict[str, Any]:
    """The record of a run, with a line for each of 40 points along it under `health`."""
    options = contestants.RMI[settings.loss]
    classes, channels = len(task.classes), task.train.images.shape[-1]
    graph, _ = trainer.network(settings.widths, channels, classes, 0)
    stream = batches(task.validation, seed=0, batch=32, crop=64, seek_classes=True)
    images, labels = next(stream)

    @jax.jit
    def measure(params):
        logits = nnx.merge(graph, params)(jnp.asarray(images))
        return rmi_jax.rmi_loss(logits, labels, **options, has_aux=True)

    lines = []

    def watch(step: int, params: Any) -> None:
        if step % max(settings.steps // POINTS, 1):
            return
        loss, parts = jax.device_get(measure(params))
        lines.append({
            "step": step,
            "loss": float(loss),
            **{name: np.round(value, 4).tolist() for name, value in parts._asdict().items()},
        })  # fmt: skip

    return {**trainer.train(settings, task, watch), "health": lines}


def draw(runs: dict[str, dict[str, Any]], classes: tuple[str, ...], file: Path) -> None:
    rows = {
        "loss, nats": "loss",
        "cross entropy, nats": "cross_entropy",
        "RMI of all classes, nats": "rmi",
        "normalized mutual information": "mutual_information",
        "slope": "slope",
    }
    size = {"figsize": (10, 12), "sharex": True, "layout": "constrained"}
    figure, axes = plt.subplots(len(rows), len(runs), **size)
    for column, (name, run) in zip(axes.T, runs.items(), strict=True):
        lines = run["health"]
        steps = [line["step"] for line in lines]
        for axis, (title, key) in zip(column, rows.items(), strict=True):
            values = np.array([line[key] for line in lines])
            if key == "rmi":
                values = values.sum(axis=1)
            axis.plot(steps, values, label=classes if values.ndim > 1 else None)
            axis.set_ylabel(title)
            if values.ndim > 1:
                axis.legend(fontsize=8)
        iou = ", ".join(f"{c} {v:.0f}" for c, v in run["test"]["iou"].items())
        column[0].set_title(f"{RUNS[name]}: test IoU {iou}", fontsize=10)
        column[-1].set_xlabel("step")
    figures.save(figure, file)


def main(
    steps: int = 1200,
    seed: int = 0,
    foreground: float | None = 0.01,
    results: Path = Path(__file__).parent / "results" / "health.json",
    output: Path = Path("outputs/health.png"),
) -> None:
    """Draws the two runs, and trains what the results lack of them.

    Args:
        steps: of each run.
        seed: of the weights and the batches.
        foreground: keep lakes only up to this share of the pixels.
        results: the file with both runs.
        output: where to draw them.
    """
    plt.switch_backend("agg")
    task = data.load("water")
    if foreground is not None:
        task = rare.thin(task, foreground)
    runs = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    for name in RUNS:
        settings = trainer.Settings("water", name, steps, seed=seed, foreground=foreground)
        if name not in runs or trainer.settings_of(runs[name]) != settings:
            runs[name] = {**watched(settings, task), **records.circumstances()}
            results.parent.mkdir(parents=True, exist_ok=True)
            results.write_text(json.dumps(runs) + "\n", encoding="utf-8")
    draw(runs, task.classes, output)
    print(f"picture: {output}")


if __name__ == "__main__":
    tyro.cli(main)

"""Ignored pixels along boundaries, and the jitter, on the water task.

`python -m studies.earlier.settings`, from the folder `examples`.

Void: the training labels get a strip of ignored pixels, two wide, along every boundary, as in
Pascal VOC; the test labels keep theirs. Which way of treating ignored pixels serves better?

Jitter: it is added to sums over positions, so that on a crop of 512 x 512 pixels it weighs 64 times
less than on one of 64 x 64. Dividing it by 64 on the same crop has the same effect (of the same
content, 64 times as much multiplies every scatter by 64). Does that change the gradient, or the
trained model?
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from quickstart import Objective

import rmi_jax
from segmentation import baselines, satellite
from studies.earlier import report, runs
from studies.earlier.boundary import mixed

JITTER, CROP = 5e-4, 64
MORE = 64  # times as many positions has a crop of 512 x 512
SOFTMAX = {"activation": "softmax", "factor": 1, "anchor": 0.0}
PAPER = {"activation": "sigmoid", "factor": 4, "anchor": 0.0}


def objectives(steps: int) -> dict[str, Objective]:
    schedule = runs.warmup(steps)

    def void(labels: jax.Array) -> jax.Array:
        return jnp.where(mixed(labels, 3), satellite.IGNORED, labels)

    def rmi(prepare: Callable[[jax.Array], jax.Array] = lambda labels: labels, **options: Any):
        return lambda logits, labels, step: rmi_jax.rmi_loss(
            logits, prepare(labels), bce_weight=schedule(step), **options
        )

    return {
        "void, softmax CE": lambda x, labels, step: baselines.cross_entropy(x, void(labels)),
        "void, softmax RMI 1, exclude": rmi(void, **SOFTMAX, ignored="exclude"),
        "void, softmax RMI 1, zero": rmi(void, **SOFTMAX, ignored="zero"),
        "void, RMI 4, exclude": rmi(void, **PAPER, ignored="exclude"),
        "void, RMI 4, zero": rmi(void, **PAPER, ignored="zero"),
        "softmax RMI 1, jitter / 64": rmi(**SOFTMAX, jitter=JITTER / MORE),
        "softmax RMI 1, jitter x 64": rmi(**SOFTMAX, jitter=JITTER * MORE),
    }


def jitter_table(logits: jax.Array, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """What a jitter that weighs more or less does to the RMI part of a trained model."""

    @jax.jit
    def value_and_gradient(logits, labels, jitter):
        def loss(logits):
            return rmi_jax.rmi_loss(logits, labels, bce_weight=0.0, jitter=jitter, **SOFTMAX)

        return jax.value_and_grad(loss)(logits)

    base, base_gradient = value_and_gradient(logits, labels, JITTER)
    table = {}
    for scale in (1 / 64, 1 / 16, 1 / 4, 4, 16, 64):
        value, gradient = value_and_gradient(logits, labels, JITTER * scale)
        norms = jnp.linalg.norm(gradient), jnp.linalg.norm(base_gradient)
        table[f"{scale:g}"] = {
            "loss": float(value / base),
            "gradient_norm": float(norms[0] / norms[1]),
            "gradient_cosine": float(jnp.vdot(gradient, base_gradient) / norms[0] / norms[1]),
        }
    return table


def void_table(labels: np.ndarray, classes: int) -> dict[str, dict[str, float]]:
    """What a strip of void leaves of the regions that hold several classes, in percent.

    With ``ignored="exclude"``: how many of these regions still count, and how much of their
    variation (of the label map's cells around their region's mean).
    """
    targets = np.eye(classes)[labels]
    valid = ~np.asarray(mixed(jnp.asarray(labels), 3))
    batch, height, width = labels.shape
    table = {}
    for factor in (1, 2, 4):

        def cells(maps: np.ndarray, factor: int = factor) -> np.ndarray:
            shape = (batch, height // factor, factor, width // factor, factor, -1)
            return maps.reshape(shape).sum(axis=(2, 4))

        def variation(maps: np.ndarray) -> np.ndarray:
            windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(1, 2))
            return windows.var(axis=(-2, -1)).sum(axis=-1)

        count = cells(valid)
        whole = variation(cells(targets) / factor**2)
        left = variation(cells(targets * valid[..., None]) / count.clip(1))
        kept = np.lib.stride_tricks.sliding_window_view(count[..., 0] > 0, (3, 3), axis=(1, 2))
        kept = np.all(kept, axis=(-2, -1))
        several = whole > 1e-9
        table[f"factor {factor}"] = {
            "regions": float(100 * kept[several].mean()),
            "variation": float(100 * left[several & kept].sum() / whole.sum()),
        }
    return table


def main(
    steps: int = 600,
    seeds: tuple[int, ...] = (0, 1, 2),
    losses: tuple[str, ...] = (),
    jitter_steps: int = 300,
    results: Path = runs.RESULTS / "settings.jsonl",
    measured: Path = runs.RESULTS / "settings.json",
    table: bool = False,
) -> None:
    """Trains with ignored strips along boundaries and with other jitters.

    Args:
        steps: training steps of each run.
        seeds: of the runs; the jitter is measured on a model with the first one.
        losses: which settings to train with, by the names in this file; all by default.
        jitter_steps: training steps of the model on which the jitter is measured.
        results: the file to which each run adds a line; runs that it holds are not repeated.
        measured: the file to write to what void leaves, and what the jitter does to a gradient.
        table: train nothing, only print the table of the runs that the files hold.
    """
    if table:
        report.print_beside_the_study(results, steps)
        return
    if min(steps, jitter_steps) < 1 or not seeds:
        raise SystemExit("the steps must be at least 1, and --seeds needs a number")
    data = satellite.load("water")
    loss_of = runs.objective("softmax-rmi-1", jitter_steps)
    model, _ = runs.run(loss_of, data, steps=jitter_steps, seed=seeds[0], title="jitter")
    images, labels = (maps[:, :CROP, :CROP] for maps in data.test)
    logits = nnx.jit(lambda model, images: model(images))(model, images)
    record = {
        "left by void, %": void_table(data.test.labels, len(data.classes)),
        "jitter, relative to 5e-4": jitter_table(logits, labels),
        **runs.circumstances({"steps": jitter_steps, "seed": seeds[0], "crop": CROP}),
    }
    measured.parent.mkdir(parents=True, exist_ok=True)
    measured.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(measured.read_text(encoding="utf-8"))
    settings = objectives(steps)
    chosen = {name: settings[name] for name in losses or settings}
    runs.fill(results, ["water"], seeds, chosen, steps=steps)
    report.print_beside_the_study(results, steps)


if __name__ == "__main__":
    report.headless()
    tyro.cli(main)

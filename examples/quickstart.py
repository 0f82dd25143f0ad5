"""Train one small U-Net with four losses on satellite imagery, and compare them.

Every loss sees the same initial weights and the same batches. Prints a table and writes a picture.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optax
import tyro
from flax import nnx
from matplotlib.patches import Patch
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

import rmi_jax
from rmi_jax import metrics
from segmentation import baselines, draw, figures, satellite
from segmentation.models.unet import UNet

LossName = Literal["softmax", "sigmoid", "dice", "rmi"]
# (logits, labels, step) -> loss. The step is for schedules, which `studies/earlier` has.
Objective = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
TITLES = {"softmax": "Softmax CE", "sigmoid": "Sigmoid CE", "dice": "CE + Dice", "rmi": "RMI"}
BATCH, CROP, LEARNING_RATE = 8, 64, 3e-3
TOLERANCE = 2  # pixels by which a predicted boundary may miss the true one


LOSSES: dict[LossName, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "softmax": baselines.cross_entropy,
    "sigmoid": baselines.binary_cross_entropy,
    "dice": baselines.cross_entropy_and_dice,
    "rmi": rmi_jax.rmi_loss,  # with its defaults: an even mix of cross entropy and RMI
}


def objective(name: LossName) -> Objective:
    return lambda logits, labels, step: LOSSES[name](logits, labels)


def train(
    model: UNet,
    loss_of: Objective,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    steps: int,
    title: str,
) -> float:
    """Changes the model. Returns the seconds per step over the second half of the steps."""
    learning_rate = optax.warmup_cosine_decay_schedule(0, LEARNING_RATE, steps // 20, steps)
    optimizer = nnx.Optimizer(model, optax.adamw(learning_rate), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, images, labels, step):
        loss, gradient = nnx.value_and_grad(lambda m: loss_of(m(images), labels, step))(model)
        optimizer.update(model, gradient)
        return loss

    half, start = steps // 2, time.perf_counter()
    bar = tqdm(range(steps), desc=f"{title:10}", unit="step", mininterval=1)
    for step, (images, labels) in zip(bar, batches, strict=False):
        if step == half:  # compilation does not count
            jax.block_until_ready(nnx.state(model))
            start = time.perf_counter()
        loss = update(model, optimizer, images, labels, step)
        if step % 10 == 0 or step == steps - 1:
            bar.set_postfix(loss=f"{float(loss):.3f}", refresh=False)
    return (time.perf_counter() - start) / (steps - half)


def train_on(
    data: satellite.Data, loss_of: Objective, *, steps: int, seed: int, title: str
) -> tuple[UNet, float]:
    """A new model, trained on random crops, and the seconds per step."""
    model = UNet(data.train.images.shape[-1], len(data.classes), rngs=nnx.Rngs(seed))
    batches = satellite.crops(data.train, seed=seed, batch=BATCH, size=CROP)
    return model, train(model, loss_of, batches, steps=steps, title=title)


@dataclass(frozen=True)
class Result:
    predictions: np.ndarray
    scores: dict[str, float]


def evaluate(model: UNet, data: satellite.Data, seconds: float) -> Result:
    predict = nnx.jit(lambda model, images: jnp.argmax(model(images), axis=-1))
    labels, classes = data.test.labels, len(data.classes)
    predictions = predict(model, data.test.images)
    matrix = metrics.confusion_matrix(predictions, labels, classes)
    contours = metrics.boundary_counts(predictions, labels, classes, tolerance=TOLERANCE)
    scores = {
        "mIoU, %": 100 * float(metrics.mean_iou(matrix)),
        **{
            f"IoU {name}, %": 100 * float(value)
            for name, value in zip(data.classes, metrics.iou(matrix), strict=True)
        },
        "boundary F1, %": 100 * float(jnp.nanmean(metrics.boundary_f1(contours))),
        "seconds per step": seconds,
    }
    return Result(np.asarray(predictions), scores)


def print_table(scores: dict[LossName, dict[str, float]], title: str, where: str) -> None:
    """A column for each loss; `where` says what was scored."""
    table = Table(title=title)
    table.add_column(where)
    for name in scores:
        table.add_column(TITLES[name], justify="right")
    for score in next(iter(scores.values())):
        form = "{:.3f}" if score == "seconds per step" else "{:.1f}"
        table.add_row(score, *(form.format(values[score]) for values in scores.values()))
    Console().print(table)


def draw_results(
    results: dict[LossName, Result], data: satellite.Data, title: str, output: Path
) -> None:
    """The test tiles with the most varied labels; none is chosen by how a loss did on it."""
    shares = [(data.test.labels == c).mean(axis=(1, 2)) for c in range(len(data.classes))]
    tiles = np.argsort(-np.sqrt(shares).sum(axis=0))[:3]
    names = list(results)
    first, last = names[0], names[-1]
    difference_colours = np.array([[245, 245, 245], [60, 60, 60], [220, 50, 32], [0, 110, 230]])

    figure, axes = plt.subplots(
        len(tiles), len(names) + 3, figsize=(1.7 * (len(names) + 3), 1.7 * len(tiles) + 0.9)
    )
    for row, tile in zip(axes, tiles, strict=True):
        labels = data.test.labels[tile]
        right = {name: results[name].predictions[tile] == labels for name in names}
        kind = np.where(right[first], np.where(right[last], 0, 2), np.where(right[last], 3, 1))
        kind[labels == satellite.IGNORED] = 0
        panels = {
            "image": (255 * (data.test_pictures[tile] / 255) ** 0.6).astype(np.uint8),  # brighter
            "truth": draw.colour(labels, data.colours),
            **{
                TITLES[name]: draw.colour(results[name].predictions[tile], data.colours)
                for name in names
            },
            "where they differ": difference_colours[kind].astype(np.uint8),
        }
        for axis, (panel, pixels) in zip(row, panels.items(), strict=True):
            axis.imshow(pixels, interpolation="nearest")
            axis.set_axis_off()
            if tile == tiles[0]:
                axis.set_title(panel, fontsize=9)
    meanings = ["wrong"]
    if first != last:
        meanings = ["both wrong", f"only {TITLES[first]} right", f"only {TITLES[last]} right"]
    entries = [
        *zip(data.classes, data.colours, strict=True),
        *zip(meanings, difference_colours[1:], strict=False),
    ]
    legend = [
        Patch(facecolor=colour / 255, edgecolor="black", linewidth=0.4, label=label)
        for label, colour in entries
    ]
    figure.suptitle(title, fontsize=10)
    figure.legend(handles=legend, loc="lower center", ncols=len(legend), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1), pad=0.4)
    figures.save(figure, output)


def main(
    steps: int = 450,
    seed: int = 0,
    losses: tuple[LossName, ...] = ("softmax", "sigmoid", "dice", "rmi"),
    task: satellite.TaskName = "water",
    output: Path = Path("outputs/quickstart.png"),
) -> None:
    """Trains a small U-Net with several losses on satellite imagery, and compares them.

    Args:
        steps: training steps for each loss.
        seed: for the initial weights and the batches, the same for each loss.
        losses: which losses to train with.
        task: water (sea, land, lake) or land-cover (seven classes, noisy labels).
        output: where to write the picture.
    """
    if steps < 1 or not losses:
        raise SystemExit("--steps must be at least 1, and --losses needs a name")
    data = satellite.load(task)
    results = {}
    for name in losses:
        model, seconds = train_on(data, objective(name), steps=steps, seed=seed, title=TITLES[name])
        results[name] = evaluate(model, data, seconds)
    title = f"{task}: {len(data.test.labels)} test tiles, {steps} steps, seed {seed}"
    print_table({name: r.scores for name, r in results.items()}, title, "on the test tiles")
    draw_results(results, data, title, output)
    print(f"picture: {output}")


if __name__ == "__main__":
    matplotlib.use("agg")
    tyro.cli(main)

"""Train one small U-Net with four losses on satellite imagery, and compare them.

Every loss sees the same initial weights and the same batches. Prints a table and writes a picture.
"""

import time
from collections.abc import Callable
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
from segmentation import satellite
from segmentation.models.unet import UNet

LossName = Literal["softmax", "sigmoid", "dice", "rmi"]
# (logits, labels, step) -> loss. Only the schedules of study.py look at the step.
Objective = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
TITLES = {"softmax": "Softmax CE", "sigmoid": "Sigmoid CE", "dice": "CE + Dice", "rmi": "RMI"}
BATCH, CROP, LEARNING_RATE = 8, 64, 3e-3
TOLERANCE = 2  # pixels by which a predicted boundary may miss the true one


def softmax_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    valid = labels != satellite.IGNORED
    classes = jnp.where(valid, labels, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
    return jnp.sum(losses * valid) / jnp.maximum(jnp.sum(valid), 1)


def sigmoid_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    valid = labels != satellite.IGNORED
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    losses = optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)
    return jnp.sum(losses * valid) / jnp.maximum(jnp.sum(valid), 1)


def dice_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross entropy plus Dice over the whole batch."""
    # Ignored pixels become one more class, whose Dice is left out.
    classes = logits.shape[-1]
    ignored = (labels == satellite.IGNORED)[..., None]
    extended = jnp.concatenate([logits, jnp.zeros_like(logits[..., :1])], axis=-1)
    extended = jnp.where(ignored == (jnp.arange(classes + 1) == classes), extended, -1e9)
    targets = jax.nn.one_hot(jnp.where(ignored[..., 0], classes, labels), classes + 1)
    losses = optax.losses.dice_loss(extended, targets, axis=(0, 1, 2), reduction="none")
    return softmax_loss(logits, labels) + losses[:-1].mean()


LOSSES: dict[LossName, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "softmax": softmax_loss,
    "sigmoid": sigmoid_loss,
    "dice": dice_loss,
    "rmi": rmi_jax.rmi_loss,  # with its defaults: an even mix of cross entropy and RMI
}


def objective(name: LossName) -> Objective:
    return lambda logits, labels, step: LOSSES[name](logits, labels)


def train(
    loss_of: Objective, data: satellite.Data, *, steps: int, seed: int, title: str
) -> tuple[UNet, float]:
    """Returns the trained model and the seconds per step over the second half of the steps."""
    model = UNet(data.train.images.shape[-1], len(data.classes), rngs=nnx.Rngs(seed))
    learning_rate = optax.warmup_cosine_decay_schedule(0, LEARNING_RATE, steps // 20, steps)
    optimizer = nnx.Optimizer(model, optax.adamw(learning_rate), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, images, labels, step):
        loss, gradient = nnx.value_and_grad(lambda m: loss_of(m(images), labels, step))(model)
        optimizer.update(model, gradient)
        return loss

    batches = satellite.crops(data.train, seed=seed, batch=BATCH, size=CROP)
    half, start = steps // 2, time.perf_counter()
    bar = tqdm(range(steps), desc=f"{title:10}", unit="step", mininterval=1)
    for step, (images, labels) in zip(bar, batches, strict=False):
        if step == half:  # compilation does not count
            jax.block_until_ready(nnx.state(model))
            start = time.perf_counter()
        loss = update(model, optimizer, images, labels, step)
        if step % 10 == 0 or step == steps - 1:
            bar.set_postfix(loss=f"{float(loss):.3f}", refresh=False)
    return model, (time.perf_counter() - start) / (steps - half)


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


def print_table(results: dict[LossName, Result], title: str) -> None:
    table = Table(title=title)
    table.add_column("on the test tiles")
    for name in results:
        table.add_column(TITLES[name], justify="right")
    for score in next(iter(results.values())).scores:
        form = "{:.3f}" if score == "seconds per step" else "{:.1f}"
        table.add_row(score, *(form.format(result.scores[score]) for result in results.values()))
    Console().print(table)


def draw(results: dict[LossName, Result], data: satellite.Data, title: str, output: Path) -> None:
    """The test tiles with the most varied labels; none is chosen by how a loss did on it."""
    shares = [(data.test.labels == c).mean(axis=(1, 2)) for c in range(len(data.classes))]
    tiles = np.argsort(-np.sqrt(shares).sum(axis=0))[:3]
    names = list(results)
    first, last = names[0], names[-1]
    palette = np.vstack([data.colours, np.zeros((256 - len(data.colours), 3), np.uint8)])
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
            "truth": palette[labels],
            **{TITLES[name]: palette[results[name].predictions[tile]] for name in names},
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
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    plt.close(figure)


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
        model, seconds = train(objective(name), data, steps=steps, seed=seed, title=TITLES[name])
        results[name] = evaluate(model, data, seconds)
    title = f"{task}: {len(data.test.labels)} test tiles, {steps} steps, seed {seed}"
    print_table(results, title)
    draw(results, data, title, output)
    print(f"picture: {output}")


if __name__ == "__main__":
    matplotlib.use("agg")
    tyro.cli(main)

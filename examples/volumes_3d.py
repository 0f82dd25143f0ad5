"""Tissue of the brain in 3-D: cross entropy against RMI with regions of 3 x 3 x 3 voxels.

A small 3-D U-Net on crops of the MNI152 template (`segmentation/mni152.py`), with noise added. The
template is an average of 152 brains, so this shows how volumes are handled and is no benchmark.
Both losses see the same initial weights and the same crops. Prints a table and writes a picture.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optax
import tyro
from flax import nnx
from quickstart import TITLES, Objective, print_table, train

from rmi_jax import metrics, rmi_loss
from segmentation import figures, mni152
from segmentation.models.unet import UNet

LossName = Literal["softmax", "rmi"]
BATCH, CROP = 2, (32, 24, 32)
TOLERANCE = 1  # voxels by which a predicted boundary may miss the true one


class Volumes(NamedTuple):
    images: np.ndarray  # float32 [B, X, Y, Z, 1]
    labels: np.ndarray  # int32 [B, X, Y, Z]


def normalize(image: np.ndarray) -> np.ndarray:
    return (image / 100 - 0.5)[..., None]


def crops(volume: mni152.Volume, *, seed: int) -> Iterator[Volumes]:
    """Endless batches of crops with fresh noise, out of the slabs for training.

    Each holds a random voxel of a class that is drawn first, so that thin tissue is seen often.
    """
    random = np.random.default_rng(seed)
    inside, _ = mni152.slabs(volume.labels)
    runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)  # of adjacent slices
    limits = {y: (run[0], run[-1] + 1) for run in runs for y in run}
    allowed = np.isin(np.arange(volume.labels.shape[1]), inside)[None, :, None]
    voxels = [np.argwhere((volume.labels == c) & allowed) for c in range(len(mni152.CLASSES))]

    def crop() -> tuple[np.ndarray, np.ndarray]:
        at = random.choice(voxels[random.integers(len(voxels))])
        bounds = ((0, volume.labels.shape[0]), limits[at[1]], (0, volume.labels.shape[2]))
        starts = [
            random.integers(max(low, a - size + 1), min(a, high - size) + 1)
            for a, size, (low, high) in zip(at, CROP, bounds, strict=True)
        ]
        window = tuple(slice(s, s + size) for s, size in zip(starts, CROP, strict=True))
        noise = mni152.NOISE * random.standard_normal(CROP, np.float32)
        return normalize(volume.image[window] + noise), volume.labels[window]

    while True:
        yield Volumes(*map(np.stack, zip(*(crop() for _ in range(BATCH)), strict=True)))


def slabs_to_test(volume: mni152.Volume) -> Volumes:
    """Slabs of 16 slices through the whole brain, with noise: one for each element of the batch."""
    _, test = mni152.slabs(volume.labels)
    random = np.random.default_rng(0)
    noisy = volume.image + mni152.NOISE * random.standard_normal(volume.image.shape, np.float32)
    window = np.s_[24:172, :, :156]  # holds the brain, in multiples of 4
    slabs = test.reshape(-1, mni152.SLAB)
    return Volumes(
        np.stack([normalize(noisy[window][:, slab]) for slab in slabs]),
        np.stack([volume.labels[window][:, slab] for slab in slabs]),
    )


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# (logits, labels, step) -> loss. RMI has its defaults, for volumes as for images; its regions are
# then 3 x 3 x 3 voxels.
LOSSES: dict[LossName, Objective] = {
    "softmax": lambda logits, labels, step: cross_entropy(logits, labels),
    "rmi": lambda logits, labels, step: rmi_loss(logits, labels),
}


def scores(predictions: np.ndarray, labels: np.ndarray, seconds: float) -> dict[str, float]:
    classes = len(mni152.CLASSES)
    matrix = metrics.confusion_matrix(predictions, labels, classes)
    contours = metrics.boundary_counts(predictions, labels, classes, tolerance=TOLERANCE)
    dice = zip(mni152.CLASSES, metrics.dice(matrix), strict=True)
    return {
        "mIoU, %": 100 * float(metrics.mean_iou(matrix)),
        **{f"Dice {name}, %": 100 * float(value) for name, value in dice},
        "boundary F1, %": 100 * float(jnp.nanmean(metrics.boundary_f1(contours))),
        "seconds per step": seconds,
    }


def draw(test: Volumes, predictions: dict[LossName, np.ndarray], title: str, output: Path) -> None:
    """The middle slice of each test slab, seen from the front; errors in red."""
    columns = 2 + 2 * len(predictions)
    figure, axes = plt.subplots(
        len(test.labels), columns, figsize=(1.7 * columns, 1.85 * len(test.labels) + 0.4)
    )
    middle = mni152.SLAB // 2
    for b, row in enumerate(axes):
        labels = test.labels[b, :, middle]
        grey = np.clip((test.images[b, :, middle, :, 0] + 0.5) / 2.55, 0, 1)
        panels = {"image": np.repeat(grey[..., None], 3, -1), "truth": mni152.COLOURS[labels]}
        for name, predicted in predictions.items():
            classes = predicted[b, :, middle]
            wrong = (classes != labels)[..., None]
            panels[TITLES[name]] = mni152.COLOURS[classes]
            panels[f"{TITLES[name]}: errors"] = np.where(wrong, (220, 50, 32), (245, 245, 245))
        for axis, (panel, pixels) in zip(row, panels.items(), strict=True):
            # From [right to left, bottom to top] to rows from the top.
            axis.imshow(pixels.swapaxes(0, 1), origin="lower", interpolation="nearest")
            axis.set_axis_off()
            if b == 0:
                axis.set_title(panel, fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(pad=0.4)
    figures.save(figure, output)


def main(
    steps: int = 200,
    seed: int = 0,
    losses: tuple[LossName, ...] = ("softmax", "rmi"),
    output: Path = Path("outputs/volumes.png"),
) -> None:
    """Trains a small 3-D U-Net with two losses on a brain template, and compares them.

    Args:
        steps: training steps for each loss.
        seed: for the initial weights and the crops, the same for each loss.
        losses: which losses to train with.
        output: where to write the picture.
    """
    if steps < 1 or not losses:
        raise SystemExit("--steps must be at least 1, and --losses needs a name")
    volume = mni152.volume()
    test = slabs_to_test(volume)
    predict = nnx.jit(lambda model, images: jnp.argmax(model(images), axis=-1))
    predictions, results = {}, {}
    for name in losses:
        model = UNet(1, len(mni152.CLASSES), widths=(8, 16, 32), axes=3, rngs=nnx.Rngs(seed))
        batches = crops(volume, seed=seed)
        seconds = train(model, LOSSES[name], batches, steps=steps, title=TITLES[name])
        parts = [np.asarray(predict(model, image[None])) for image in test.images]
        predictions[name] = np.concatenate(parts)
        results[name] = scores(predictions[name], test.labels, seconds)
    title = f"MNI152 with noise: {len(test.labels)} test slabs, {steps} steps, seed {seed}"
    print_table(results, title, "on the test slabs")
    draw(test, predictions, title, output)
    print(f"picture: {output}")


if __name__ == "__main__":
    matplotlib.use("agg")
    tyro.cli(main)

"""What is measured: shapes of well-known data sets, with as many classes present as they have."""

from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    shape: tuple[int, ...]  # of the logits, [B, *S, C]
    present: int  # classes present in every image
    factor: int = 1  # pixels per cell; 1 is full resolution, 4 the paper's setting


CASES = {
    # PASCAL VOC as the paper trains it.
    "voc-3": Case((2, 513, 513, 21), 3),
    "voc-8": Case((2, 513, 513, 21), 8),
    "voc-21": Case((2, 513, 513, 21), 21),
    "voc-3-stride4": Case((2, 513, 513, 21), 3, 4),
    "voc-8-stride4": Case((2, 513, 513, 21), 8, 4),
    "voc-21-stride4": Case((2, 513, 513, 21), 21, 4),
    # Other resolutions of voc-3, for the plot.
    "voc-3-129": Case((2, 129, 129, 21), 3),
    "voc-3-257": Case((2, 257, 257, 21), 3),
    "voc-3-1025": Case((2, 1025, 1025, 21), 3),
    "cityscapes": Case((1, 1024, 2048, 19), 12),
    # The same maps with many and with few absent classes.
    "ade20k": Case((2, 512, 512, 150), 8),
    "ade20k-21": Case((2, 512, 512, 21), 8),
    "volume": Case((1, 96, 96, 96, 4), 4),
    # A batch that keeps an accelerator busy. Too large for the peers on a CPU.
    "voc-batch16": Case((16, 513, 513, 21), 3),
}
ACCELERATOR_ONLY = ("voc-batch16",)


def make(case: Case, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, right in most places and noisy, and labels of angular objects."""
    rng = np.random.default_rng(seed)
    batch, *spatial, classes = case.shape
    labels = np.stack([_objects(rng, spatial, classes, case.present) for _ in range(batch)])
    logits = rng.standard_normal(case.shape, dtype=np.float32)
    logits -= 2
    at_label = np.take_along_axis(logits, labels[..., None], axis=-1)
    np.put_along_axis(logits, labels[..., None], at_label + 4, axis=-1)
    return logits, labels


def _objects(rng, spatial, classes, present):
    """The cells of a Voronoi diagram, every class in at least two of them."""
    kinds = np.repeat(rng.choice(classes, present, replace=False), 2)
    axes = [np.arange(size, dtype=np.float32) for size in spatial]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    nearest = np.full(spatial, np.inf, np.float32)
    labels = np.zeros(spatial, np.int32)
    for kind in kinds:
        centre = [rng.uniform(0, size) for size in spatial]
        distance = sum((g - np.float32(c)) ** 2 for g, c in zip(grid, centre, strict=True))
        labels = np.where(distance < nearest, np.int32(kind), labels)
        nearest = np.minimum(nearest, distance)
    return labels

"""Small inputs shared by the tests: few shapes, so that few programs are compiled."""

from typing import NamedTuple

import numpy as np

# Sides differ from each other and from multiples of the factors. 3 classes, the last one absent
# from the second image.
SHAPES = {1: (2, 37, 3), 2: (2, 17, 14, 3), 3: (2, 9, 8, 10, 3)}


class Example(NamedTuple):
    logits: np.ndarray  # [B, *S, C] float64
    probs: np.ndarray  # [B, *S, C] in (0, 1), their sigmoid
    targets: np.ndarray  # [B, *S, C] soft, in (0, 1)
    labels: np.ndarray  # [B, *S] int32, a few of them -1 or 255: ignored
    mask: np.ndarray  # [B, *S] bool, one block and a few pixels False
    weights: np.ndarray  # [B, *S] >= 0, zero where the mask is False


def smooth(maps, times=2):
    """Blurs over the spatial axes of ``[B, *S, C]``, wrapping around."""
    for _ in range(times):
        for axis in range(1, maps.ndim - 1):
            maps = (maps + np.roll(maps, 1, axis) + np.roll(maps, -1, axis)) / 3
    return maps


def example(ndim, shape=None, seed=0):
    """A trained-looking prediction: right in most places, with smooth errors and some noise."""
    shape = SHAPES[ndim] if shape is None else shape
    rng = np.random.default_rng(seed)
    batch, *spatial, classes = shape
    field = smooth(rng.normal(size=shape))
    field[1:, ..., classes - 1] -= 100 if classes > 1 else 0
    labels = np.argmax(field, axis=-1).astype(np.int32)
    truth = np.eye(classes)[labels]
    logits = 4 * smooth(truth, 1) - 2 + 2 * smooth(rng.normal(size=shape))
    logits += 0.5 * rng.normal(size=shape)
    targets = np.clip(0.8 * smooth(truth, 1) + 0.15 * rng.uniform(size=shape), 0, 1)
    ignored = rng.uniform(size=labels.shape) < 0.04
    labels = np.where(ignored, np.where(rng.uniform(size=labels.shape) < 0.5, -1, 255), labels)
    mask = rng.uniform(size=labels.shape) > 0.03
    mask[0][tuple(slice(0, n // 3) for n in spatial)] = False
    weights = np.where(mask, rng.uniform(0.2, 2, size=labels.shape), 0)
    probs = 1 / (1 + np.exp(-logits))
    return Example(logits, probs, targets, labels.astype(np.int32), mask, weights)

"""Predictions that are the truth, filtered: the kind that strains float32 most.

Where a linear filter of the prediction gives back most of the label regions, what the regression
leaves is a million times smaller than what goes in. Any network with stride begins like this.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Problem(NamedTuple):
    """A batch of images whose predictions were filtered in different ways."""

    names: list[str]  # [B]
    probs: np.ndarray  # [B, *S, C] float32 in [0, 1]
    targets: np.ndarray  # [B, *S, C] of zeros and ones
    labels: np.ndarray  # [B, *S] int32
    weights: np.ndarray  # [B, *S] float32 in [0, 1]


def truth(rng, shape, classes):
    """Labels ``[*S]``: rounded objects, rectangles, or objects of one or two pixels."""
    kind = rng.choice(["rounded", "rectangles", "pixels"], p=[0.6, 0.25, 0.15])
    labels = np.zeros(shape, np.int32)
    if kind == "rounded":
        noise = rng.normal(size=(classes, *shape))
        scale = rng.uniform(1, max(shape) / 10)
        return np.argmax([ndimage.gaussian_filter(m, scale) for m in noise], axis=0).astype("int32")
    for c in range(1, classes):
        for _ in range(rng.integers(1, 4)):
            start = [rng.integers(0, n) for n in shape]
            most = 2 if kind == "pixels" else max(shape) // 2
            stop = [a + rng.integers(1, most + 1) for a in start]
            if kind == "pixels" and rng.random() < 0.5:
                stop = [a + 1 for a in start]
            labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = c
    return labels


def _moved(maps, shift):
    return np.roll(maps, shift, axis=tuple(range(len(shift))))


def shifts(ndim, reach=3):
    """All shift vectors with entries up to `reach`."""
    return list(itertools.product(range(-reach, reach + 1), repeat=ndim))


def _mixture(rng, maps):
    ndim = maps.ndim - 1
    chosen = rng.integers(-3, 4, size=(rng.integers(2, 4), ndim))
    weights = rng.dirichlet(np.ones(len(chosen)))
    return sum(w * _moved(maps, s) for w, s in zip(weights, chosen, strict=True))


def _random_filter(side):
    def apply(rng, maps):
        ndim = maps.ndim - 1
        kernel = rng.dirichlet(np.ones(side**ndim)).reshape((side,) * ndim)
        return ndimage.convolve(maps, kernel[..., None])

    return apply


def _per_class(function):
    def apply(rng, maps):
        size = rng.choice([2, 3, 5])
        return function(maps, (*[size] * (maps.ndim - 1), 1))

    return apply


def _gaussian(rng, maps):
    return ndimage.gaussian_filter(maps, (*[rng.uniform(0.4, 2.5)] * (maps.ndim - 1), 0))


FILTERS = {
    "shift": lambda rng, maps: _moved(maps, rng.integers(-3, 4, size=maps.ndim - 1)),
    "mixture of shifts": _mixture,
    "filter of 3": _random_filter(3),
    "filter of 5": _random_filter(5),
    "box": _per_class(lambda maps, size: ndimage.uniform_filter(maps, size)),
    "gaussian": _gaussian,
    "dilation": _per_class(lambda maps, size: ndimage.grey_dilation(maps, size)),
    "erosion": _per_class(lambda maps, size: ndimage.grey_erosion(maps, size)),
    "mirrored": lambda rng, maps: np.flip(maps, rng.integers(maps.ndim - 1)),
    "none": lambda rng, maps: maps,
}


def filtered(rng, maps, name=None):
    """A prediction ``[*S, C]`` made of one-hot truth, and how it was made."""
    names = list(FILTERS)
    name = rng.choice(names, p=[0.2, *[0.8 / (len(names) - 1)] * (len(names) - 1)])
    made = np.clip(FILTERS[name](rng, maps.astype(np.float64)), 0, 1)
    if rng.random() < 0.15:
        name, made = f"{name}, inverted", 1 - made
    if rng.random() < 0.5:  # as saturated as confident logits leave it
        low = 1 / (1 + np.exp(rng.uniform(2, 20)))
        name, made = f"{name}, from {low:.1e}", low + (1 - 2 * low) * made
    if rng.random() < 0.3:
        contrast = 10 ** rng.uniform(-4, 0)
        offset = rng.uniform(0, 1 - contrast)
        name, made = f"{name}, contrast {contrast:.1e}", offset + contrast * made
    return name, made.astype(np.float32)


def problem(rng, batch, shape, classes, make=filtered):
    """Draws a batch; ``make(rng, one-hot maps)`` gives name and prediction of an image."""
    labels = np.stack([truth(rng, shape, classes) for _ in range(batch)])
    targets = np.eye(classes)[labels]
    names, probs = zip(*(make(rng, maps) for maps in targets), strict=True)
    weights = rng.uniform(0.1, 1, size=labels.shape) * (rng.random(labels.shape) > 0.01)
    weights[:, : shape[0] // 4] = 0
    return Problem(
        list(names),
        np.stack(probs),
        targets.astype(np.float32),
        labels,
        weights.astype(np.float32),
    )

"""Predictions that strain float32: what a network gives early, late, saturated, or misplaced.

Maps are ``[2, side, side, 4]``. The last class is absent from the second image.
"""

import numpy as np
from scipy import ndimage

SHAPE = (2, 4)  # images, classes


def _each_map(filtered, maps):
    moved = np.moveaxis(maps, -1, 1)
    return np.moveaxis(np.array([[filtered(m) for m in image] for image in moved]), 1, -1)


def _noise(side, scale, seed):
    images, classes = SHAPE
    noise = np.random.default_rng(seed).normal(size=(images, side, side, classes))
    smooth = _each_map(lambda m: ndimage.gaussian_filter(m, scale), noise)
    return smooth / smooth.std()


def truth(side):
    """Integer labels of rounded objects."""
    field = _noise(side, side / 16, seed=1)
    field[1, ..., -1] = -np.inf
    return np.argmax(field, axis=-1).astype(np.int32)


def one_hot(labels):
    return np.eye(SHAPE[1])[labels]


def one_pixel(side):
    """Labels in which two classes are one pixel each."""
    labels = np.zeros((SHAPE[0], side, side), np.int32)
    labels[:, side // 2, side // 2] = 1
    labels[0, 0, 0] = 2
    return labels


def _logits(probs):
    return np.log((probs + 1e-4) / (1 - probs + 1e-4))


def easy(side):
    """``name: (logits, labels)``, all of which one pass in float32 must get right."""
    labels = truth(side)
    sign = 2 * one_hot(labels) - 1
    point = one_pixel(side)
    noise = np.random.default_rng(0).normal(size=sign.shape)
    cases = {
        "random": noise,
        "random, 1 %": 0.04 * noise,
        "smooth": 0.01 * _noise(side, 8, seed=0),
        "low contrast": 0.01 * sign,
        "trained": 3 * sign + 4 * _noise(side, 4, seed=0),
        "good": 8 * sign,
        "near perfect": 12 * sign,
        "perfect 20": 20 * sign,
        "perfect 40": 40 * sign,
        "inverted 5": -5 * sign,
        "inverted 12": -12 * sign,
        "constant": np.full(sign.shape, -2.0),
        "saturated": 1e4 * sign,
        "saturated noise": 1e4 * noise,
    }
    found = {name: (logits, labels) for name, logits in cases.items()}
    point_sign = 2 * one_hot(point) - 1
    found["one pixel, noise"] = (noise, point)
    found["one pixel, good"] = (8 * point_sign, point)
    found["one pixel, missed"] = (np.broadcast_to([8.0, -8.0, -8.0, -8.0], sign.shape), point)
    return {name: (logits.astype(np.float32), y) for name, (logits, y) in found.items()}


def hard(side):
    """Predictions from which a linear filter restores most of the truth (the limit of F1b)."""
    labels = truth(side)
    sign = 2 * one_hot(labels) - 1
    box = _each_map(lambda m: ndimage.uniform_filter(m, 3), one_hot(labels))
    wave = np.sin(np.arange(side) / 5)[:, None, None]
    cases = {
        "shifted by 1, confident": 8 * np.roll(sign, 1, axis=2),
        "shifted by 1": 40 * np.roll(sign, 1, axis=2),
        "shifted by 2": 40 * np.roll(sign, 2, axis=2),
        "box blur": _logits(box),
        "sinusoid": np.broadcast_to(wave, sign.shape),
    }
    return {name: (logits.astype(np.float32), labels) for name, logits in cases.items()}

"""Label maps as colours."""

from typing import Any

import numpy as np
from PIL import Image

OPACITY = 0.55


def colour(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """uint8 ``[H, W]`` to uint8 ``[H, W, 3]``; what is no class is black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    return palette[labels]


def overlay(image: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    # Pillow mixes bytes in place, where floats of a large scene would not fit.
    below, above = Image.fromarray(image), Image.fromarray(colour(labels, colours))
    return np.asarray(Image.blend(below, above, OPACITY))


def strip(picture: Any, colours: np.ndarray) -> np.ndarray:
    """Picture, truth and prediction of an `evaluation.Picture`, side by side."""
    return np.concatenate(
        [
            picture.image,
            colour(picture.labels, colours),
            colour(picture.prediction, colours),
        ],
        axis=1,
    )


def palette_png(labels: np.ndarray, colours: np.ndarray) -> Image.Image:
    """A mode-P picture whose pixels are class indices."""
    picture = Image.fromarray(labels)
    picture.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
    return picture

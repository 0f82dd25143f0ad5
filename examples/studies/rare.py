"""A task with fewer objects: most are erased from the labels and painted over in the pictures."""

import dataclasses

import numpy as np
from scipy import ndimage

from studies.data import IGNORED, Maps, Task

# The class that becomes rare, and the one that takes its place.
FOREGROUND = {"drive": (1, 0), "water": (2, 1)}
BLOCK = 32  # pixels: vessels hang together, so their pieces in the squares of a grid are objects
MARGIN = 2  # pixels around an object that are painted over with it


def thin(task: Task, share: float) -> Task:
    """Keeps objects, drawn at random, up to this share of the valid pixels of each part."""
    if task.name not in FOREGROUND:
        raise SystemExit(f"no foreground to thin in {task.name}; there is one in {[*FOREGROUND]}")
    parts = {
        name: thin_part(getattr(task, name), *FOREGROUND[task.name], share)
        for name in ("train", "validation", "test")
    }
    return dataclasses.replace(task, **parts)


def thin_part(maps: Maps, foreground: int, background: int, share: float) -> Maps:
    objects = pieces(maps.labels == foreground)
    sizes = np.bincount(objects.ravel())
    order = 1 + np.random.default_rng(0).permutation(len(sizes) - 1)
    # In random order, an object is kept if it still fits: small ones may follow large ones.
    room, kept = share * np.count_nonzero(maps.labels != IGNORED), np.zeros(len(sizes), bool)
    for index in order:
        if sizes[index] <= room:
            kept[index], room = True, room - sizes[index]
    erased = (objects > 0) & ~kept[objects]
    images = np.stack([
        painted_over(image, gone, objects_here > 0)
        for image, gone, objects_here in zip(maps.images, erased, objects, strict=True)
    ])  # fmt: skip
    return Maps(images, np.where(erased, background, maps.labels).astype(np.uint8))


def pieces(mask: np.ndarray) -> np.ndarray:
    """Numbers the connected parts of a stack of masks, cut along a grid; 0 is outside."""
    within_image = ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]
    parts = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, within_image, output=parts)
    rows, columns = (np.arange(side) // BLOCK for side in mask.shape[1:])
    square = rows[:, None] * (columns[-1] + 1) + columns
    keys = parts * (square.max() + 1) + square
    numbers = np.zeros(mask.shape, np.int64)
    numbers[mask] = np.unique(keys[mask], return_inverse=True)[1] + 1
    return numbers


def painted_over(image: np.ndarray, erased: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The picture with what surrounds objects in place of the erased ones."""
    if not erased.any():
        return image
    gone = ndimage.binary_dilation(erased, iterations=MARGIN)
    near = np.logical_not(ndimage.binary_dilation(objects, iterations=MARGIN))

    def blurred(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values.astype(np.float64), 6)

    weight = np.maximum(blurred(near), 1e-6)
    filled = np.stack(
        [blurred(near * channel) / weight for channel in np.moveaxis(image, -1, 0)], axis=-1
    )
    return np.where(gone[..., None], filled, image).astype(np.float32)

"""Endless batches of crops that are turned, mirrored, scaled and recoloured at random."""

from collections.abc import Iterator

import numpy as np

from studies.data import IGNORED, Maps

SCALES = (0.75, 4 / 3)
GAIN, SHIFT = 0.2, 0.2  # of the contrast and brightness, in standard deviations


def batches(
    maps: Maps, *, seed: int, batch: int, crop: int, seek_classes: bool, upright: bool = False
) -> Iterator[Maps]:
    """The same batches for the same seed, whatever is trained with them.

    Args:
        maps: what crops are taken from.
        seed: of the random numbers.
        batch: crops in a batch.
        crop: height and width of each.
        seek_classes: draw a class first and then a crop that shows one of its pixels, so that rare
            classes are seen often; otherwise every crop of the part is as likely.
        upright: mirror left and right only; otherwise crops are turned as well.
    """
    random = np.random.default_rng(seed)
    flat = maps.labels.ravel()
    pixels = [np.flatnonzero(flat == c) for c in np.unique(flat) if c != IGNORED]
    while True:
        crops = []
        for _ in range(batch):
            at = None
            if seek_classes:
                chosen = random.choice(pixels[random.integers(len(pixels))])
                index, *at = np.unravel_index(chosen, maps.labels.shape)
            else:
                index = random.integers(len(maps.labels))
            crops.append(
                one(Maps(maps.images[index], maps.labels[index]), at, crop, random, upright)
            )
        yield Maps(*map(np.stack, zip(*crops, strict=True)))


def one(picture: Maps, at, crop: int, random: np.random.Generator, upright: bool = False) -> Maps:
    """A crop around the pixel `at`, anywhere in it, or anywhere in the picture."""
    scale = np.exp(random.uniform(*np.log(SCALES)))
    coordinates = []
    for axis, side in enumerate(picture.labels.shape):
        window = min(crop / scale, side)
        low, high = 0.0, side - window
        if at is not None:
            low, high = max(low, at[axis] + 1 - window), min(high, float(at[axis]))
        begin = random.uniform(low, max(low, high))
        centres = begin + (np.arange(crop) + 0.5) * window / crop - 0.5
        coordinates.append(np.clip(centres, 0, side - 1))
    image, labels = resample(picture, *coordinates)
    turns, mirror = int(random.integers(4)), random.choice([-1, 1])
    if upright:
        image, labels = (part[:, ::mirror] for part in (image, labels))
    else:
        image, labels = (np.rot90(part, turns)[::mirror] for part in (image, labels))
    channels = image.shape[-1]
    gain = 1 + random.uniform(-GAIN, GAIN) + random.uniform(-GAIN, GAIN, channels) / 2
    shift = random.uniform(-SHIFT, SHIFT) + random.uniform(-SHIFT, SHIFT, channels) / 2
    return Maps((image * gain + shift).astype(np.float32), labels.astype(np.int32))


def resample(picture: Maps, rows: np.ndarray, columns: np.ndarray) -> Maps:
    """The picture at these coordinates: bilinear, and the nearest label (classes have no mean)."""
    nearest = np.ix_(np.round(rows).astype(int), np.round(columns).astype(int))
    image = picture.images
    for axis, at in enumerate((rows, columns)):
        low = at.astype(int)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        weight = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
    return Maps(image, picture.labels[nearest])

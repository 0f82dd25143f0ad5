"""A data set of pictures with a class for each pixel, and how one picture is read.

Every layout on disk becomes a `Dataset`, in which labels are class indices and 255 is ignored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

IGNORED = 255


class BadData(ValueError):
    """Something is wrong with the files. The message names the file."""


@dataclass(frozen=True)
class Dataset:
    """Pictures and label maps, read when asked for."""

    classes: tuple[str, ...]
    colours: np.ndarray  # uint8 [C, 3], to draw label maps with
    names: tuple[str, ...]  # one for each picture, unique
    reader: Callable[[int], tuple[np.ndarray, np.ndarray]]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, i: int) -> str:
        return self.names[i]

    def read(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Picture uint8 ``[H, W, 3]`` and labels uint8 ``[H, W]``; `BadData` if files are wrong."""
        return self.reader(i)


@dataclass(frozen=True)
class Table:
    """What the pixels of a mask mean: ``((pixel, class), ...)``.

    A pixel is its stored value or, if `is_rgb`, its colour ``65536 * red + 256 * green + blue``.
    """

    meanings: tuple[tuple[int, int], ...]
    is_rgb: bool = False


class Sample(NamedTuple):
    name: str
    image: Path
    mask: Path
    table: Table


@dataclass(frozen=True)
class FileReader:
    """Reads the i-th sample. A class and not a closure, so that worker processes can receive it."""

    samples: tuple[Sample, ...]

    def __call__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        _, image_file, mask_file, table = self.samples[i]
        image = read_image(image_file)
        if not mask_file.exists():
            raise BadData(f"{mask_file}: there is no such file, the mask of {image_file}")
        labels = read_mask(mask_file, table)
        if image.shape[:2] != labels.shape:
            size, mask_size = (f"{w} x {h}" for h, w in (image.shape[:2], labels.shape))
            raise BadData(f"{mask_file}: is {mask_size} pixels, but {image_file} is {size}")
        return image, labels


def from_files(classes: tuple[str, ...], colours: Any, samples: list[Sample]) -> Dataset:
    samples = sorted(set(samples))  # a list may repeat itself
    names = tuple(sample.name for sample in samples)
    return Dataset(classes, np.asarray(colours, np.uint8), names, FileReader(tuple(samples)))


def read_image(file: Path) -> np.ndarray:
    """uint8 ``[H, W, 3]``."""
    picture = _open(file)
    if picture.mode.startswith(("I", "F")):  # Pillow would clip these to 255 without a word
        raise BadData(f"{file}: has more than 8 bits per channel (mode {picture.mode})")
    return np.asarray(picture.convert("RGB"))


def read_mask(file: Path, table: Table) -> np.ndarray:
    """uint8 ``[H, W]``: class indices and 255."""
    picture = _open(file)
    if table.is_rgb:
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.int32), -1, 0)
        pixels = (red << 16) + (green << 8) + blue
    else:
        # The pixels of a palette picture are the indices. They are kept as they are: converting
        # to grey or RGB would give the brightness or the colours of the palette.
        pixels = np.asarray(picture).astype(np.int32)
        if pixels.ndim != 2:
            raise BadData(
                f"{file}: has {pixels.shape[-1]} channels (mode {picture.mode}), but the table "
                "gives one value for each class"
            )
    lookup = _lookup(table)
    labels = lookup[np.clip(pixels, -1, len(lookup) - 1)]  # both ends mean: not in the table
    if (labels < 0).any():
        raise BadData(f"{file}: {_outside(pixels, labels, table)}")
    return labels.astype(np.uint8)


@cache
def _lookup(table: Table) -> np.ndarray:
    size = 1 + max(pixel for pixel, _ in table.meanings)
    lookup = np.full(size + 1, -1, np.int16)
    for pixel, meaning in table.meanings:
        lookup[pixel] = meaning
    return lookup


def _outside(pixels: np.ndarray, labels: np.ndarray, table: Table) -> str:
    row, column = np.argwhere(labels < 0)[0]
    count, value = (labels < 0).sum(), pixels[row, column]
    shown = f"colour #{value:06x}" if table.is_rgb else f"value {value}"
    return f"{shown} at row {row}, column {column} is not in the table ({count} such pixels)"


def _open(file: Path) -> Image.Image:
    try:
        with Image.open(file) as picture:
            picture.load()
            return picture
    except FileNotFoundError:
        raise BadData(f"{file}: there is no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadData(f"{file}: cannot be read, {error}") from error

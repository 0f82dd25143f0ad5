"""A data set of pictures with a class for each pixel, and how one picture is read.

Every layout on disk becomes a `Dataset`, in which labels are class indices and 255 is ignored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segmentation import images
from segmentation.images import Stored
from segmentation.problems import BadData

IGNORED = 255


@dataclass(frozen=True)
class Dataset:
    """Pictures and label maps, read when asked for."""

    classes: tuple[str, ...]
    colours: np.ndarray  # uint8 [C, 3], to draw label maps with
    names: tuple[str, ...]  # one for each picture; a list may repeat itself
    reader: Callable[[int], tuple[np.ndarray, np.ndarray]]
    left_out: tuple[str, ...] = ()  # what is in the folders and not in here, a line for each kind

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
    view: Path | None = None  # 0 in it is outside the field of view, and ignored


@dataclass(frozen=True)
class FileReader:
    """Reads the i-th sample. A class and not a closure, so that worker processes can receive it."""

    samples: tuple[Sample, ...]
    limit: int | None = None  # pixels in a picture

    def __call__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        _, image_file, mask_file, table, view_file = self.samples[i]
        image = read_image(image_file, self.limit)
        labels = self.beside(image, image_file, mask_file, table, "the mask")
        if view_file is not None:
            seen = self.beside(image, image_file, view_file, VIEW, "the field of view")
            labels = np.where(seen, labels, IGNORED).astype(np.uint8)
        return image, labels

    def beside(
        self, image: np.ndarray, image_file: Path, file: Path, table: Table, what: str
    ) -> np.ndarray:
        if not file.exists():
            raise BadData(f"{file}: there is no such file, {what} of {image_file}")
        labels = read_mask(file, table, self.limit)
        if image.shape[:2] != labels.shape:
            size, mask_size = (f"{w} x {h}" for h, w in (image.shape[:2], labels.shape))
            why = images.turned(image_file)
            raise BadData(f"{file}: is {mask_size} pixels, but {image_file} is {size}{why}")
        return labels


VIEW = Table(((0, 0), *((value, 1) for value in range(1, 256))))


def from_files(
    classes: tuple[str, ...],
    colours: Any,
    samples: list[Sample],
    left_out: list[str] | None = None,
) -> Dataset:
    names = tuple(sample.name for sample in samples)
    colours = np.asarray(colours, np.uint8)
    return Dataset(classes, colours, names, FileReader(tuple(samples)), tuple(left_out or ()))


def read_image(file: Path, limit: int | None = None) -> np.ndarray:
    """uint8 ``[H, W, 3]``."""
    return images.read(file, "picture", limit)[0]


def read_mask(file: Path, table: Table, limit: int | None = None) -> np.ndarray:
    """uint8 ``[H, W]``: class indices and 255."""
    pixels, stored = images.read(file, "colours" if table.is_rgb else "values", limit)
    if table.is_rgb:
        red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
        pixels = (red << 16) + (green << 8) + blue
    elif stored.number == "float":
        pixels = _whole(file, pixels)
    elif stored.bits == 1 and 1 not in dict(table.meanings):
        pixels = 255 * pixels  # as viewers show a bit, and the table speaks of it
    lookup = _lookup(table)
    labels = lookup[np.clip(pixels, -1, len(lookup) - 1)]  # both ends mean: not in the table
    if (labels < 0).any():
        raise BadData(f"{file}: {_outside(pixels, labels, table, stored)}")
    return labels.astype(np.uint8)


def _whole(file: Path, pixels: np.ndarray) -> np.ndarray:
    broken = ~(np.isfinite(pixels) & (pixels == np.rint(pixels)) & (abs(pixels) < 2**31))
    if broken.any():
        row, column = np.argwhere(broken)[0]
        raise BadData(
            f"{file}: value {pixels[row, column]} at row {row}, column {column} is no class, which "
            f"is a whole number ({broken.sum()} such pixels)"
        )
    return pixels.astype(np.int64)


@cache
def _lookup(table: Table) -> np.ndarray:
    size = 1 + max(pixel for pixel, _ in table.meanings)
    lookup = np.full(size + 1, -1, np.int16)
    for pixel, meaning in table.meanings:
        lookup[pixel] = meaning
    return lookup


def _outside(pixels: np.ndarray, labels: np.ndarray, table: Table, stored: Stored) -> str:
    row, column = np.argwhere(labels < 0)[0]
    count, value = (labels < 0).sum(), pixels[row, column]
    shown = f"colour #{value:06x}" if table.is_rgb else f"value {value}"
    few = f", stored in {stored.bits} bits" if stored.bits < 8 else ""
    return f"{shown} at row {row}, column {column} is not in the table ({count} such pixels{few})"

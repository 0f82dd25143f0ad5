"""Satellite imagery with two labellings, cut into tiles and random crops.

`examples/data/README.md` describes the images and their sources. Both tasks use the same picture of
the Earth on a grid of 15 pixels per degree:

- `water`: sea, land, lake. Crisp coastlines; thin and small lakes are the rare, hard class.
- `land-cover`: seven classes. The labels are a classifier's product and noisy from pixel to pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from segmentation.dataset import IGNORED

DATA = Path(__file__).parents[1] / "data"
TILE = 128
ROWS = slice(60, 2250)  # no labels worth learning nearer to the poles

TaskName = Literal["water", "land-cover"]


class Tiles(NamedTuple):
    images: np.ndarray  # float32 [N, 128, 128, 3], standardized over the training part
    labels: np.ndarray  # int32 [N, 128, 128], 255 is ignored


@dataclass(frozen=True)
class Data:
    classes: tuple[str, ...]
    colours: np.ndarray  # uint8 [C, 3], to draw label maps with
    train: Tiles
    test: Tiles
    test_pictures: np.ndarray  # uint8 [N, 128, 128, 3], the test images to look at


class Selection(NamedTuple):
    classes: tuple[str, ...]
    colours: np.ndarray  # uint8 [C, 3]
    pictures: np.ndarray  # uint8 [N, 128, 128, 3]
    labels: np.ndarray  # uint8 [N, 128, 128], 255 is ignored
    is_test: np.ndarray  # bool [N]
    columns: np.ndarray  # int [N], where on the grid of tiles, from west to east


def select(task: TaskName, folder: Path = DATA) -> Selection:
    """Tiles worth learning from; every fourth one is kept for testing. Tiles never overlap."""
    if task == "water":
        file, classes = "water_3_classes_5400x2700.png", ("sea", "land", "lake")
    else:
        file = "land_cover_7_classes_5400x2700.png"
        classes = ("water", "forest", "shrub", "grass", "crop", "barren", "snow")
    with Image.open(folder / "blue_marble_5400x2700.jpg") as picture:
        pictures = cut(np.asarray(picture.convert("RGB")))
    with Image.open(folder / file) as indexed:  # mode P: the pixels are class indices, keep them so
        labels = cut(np.asarray(indexed))
        colours = np.array(indexed.getpalette(), np.uint8).reshape(-1, 3)[: len(classes)]

    def share(mask: np.ndarray) -> np.ndarray:
        return mask.mean(axis=(1, 2))

    if task == "water":
        kept = (share(labels == 2) >= 0.002) & (share(labels != 0) >= 0.2)
    else:
        kept = share((labels != 0) & (labels != IGNORED)) >= 0.3
    is_test = np.arange(kept.sum()) % 4 == 3
    columns = np.flatnonzero(kept) % (5400 // TILE)
    return Selection(classes, colours, pictures[kept], labels[kept], is_test, columns)


def load(task: TaskName, folder: Path = DATA) -> Data:
    """The selected tiles, normalized."""
    classes, colours, pictures, labels, is_test, _ = select(task, folder)
    labels = labels.astype(np.int32)
    mean = pictures[~is_test].mean(axis=(0, 1, 2))
    std = pictures[~is_test].std(axis=(0, 1, 2))
    images = ((pictures - mean) / std).astype(np.float32)
    return Data(
        classes,
        colours,
        Tiles(images[~is_test], labels[~is_test]),
        Tiles(images[is_test], labels[is_test]),
        pictures[is_test],
    )


def cut(grid: np.ndarray) -> np.ndarray:
    """[H, W, ...] to disjoint tiles [N, 128, 128, ...]."""
    grid = grid[ROWS]
    rows, columns = grid.shape[0] // TILE, grid.shape[1] // TILE
    grid = grid[: rows * TILE, : columns * TILE]
    grid = grid.reshape(rows, TILE, columns, TILE, *grid.shape[2:])
    return grid.swapaxes(1, 2).reshape(-1, TILE, TILE, *grid.shape[4:])


def crops(tiles: Tiles, *, seed: int, batch: int, size: int) -> Iterator[Tiles]:
    """Endless batches of crops, each turned and mirrored at random; the same ones for a seed.

    Each holds a random pixel of a class that is drawn first, so that rare classes are seen often.
    """
    random = np.random.default_rng(seed)
    flat = tiles.labels.ravel()
    pixels = [np.flatnonzero(flat == c) for c in np.unique(flat) if c != IGNORED]

    def crop() -> tuple[np.ndarray, ...]:
        chosen = random.choice(pixels[random.integers(len(pixels))])
        tile, *pixel = np.unravel_index(chosen, tiles.labels.shape)
        row, column = (
            random.integers(max(0, at - size + 1), min(at, side - size) + 1)
            for at, side in zip(pixel, tiles.labels.shape[1:], strict=True)
        )
        window = np.s_[tile, row : row + size, column : column + size]
        turns, mirror = int(random.integers(4)), random.choice([-1, 1])
        return tuple(np.rot90(maps[window], turns)[::mirror] for maps in tiles)

    while True:
        yield Tiles(*map(np.stack, zip(*(crop() for _ in range(batch)), strict=True)))

"""The satellite imagery that ships with the examples, as a data set.

The tiles are those of the quick start. There is no third part: "val" and "test" are the same.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from segmentation import satellite
from segmentation.dataset import Dataset


@dataclass(frozen=True)
class TileReader:
    task: satellite.TaskName
    tiles: tuple[int, ...]

    def __call__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        selection = _select(self.task)
        return selection.pictures[self.tiles[i]], selection.labels[self.tiles[i]]


def open_task(task: satellite.TaskName, split: str) -> Dataset:
    selection = _select(task)
    tiles = np.flatnonzero(selection.is_test == (split != "train"))
    names = tuple(f"{task}-{tile:03d}" for tile in tiles)
    return Dataset(
        selection.classes, selection.colours, names, TileReader(task, tuple(tiles.tolist()))
    )


_select = cache(satellite.select)  # once in each process that reads

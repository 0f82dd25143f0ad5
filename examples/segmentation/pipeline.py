"""Batches for training and whole pictures for evaluation, through Grain."""

import atexit
from collections.abc import Iterator
from functools import partial
from typing import Any

import grain
import numpy as np
from absl import flags

from segmentation.augment import augment
from segmentation.dataset import Dataset


def train_batches(
    dataset: Dataset,
    *,
    batch: int,
    crop: int | tuple[int, int],
    seed: int,
    scale_range: tuple[float, float] = (0.5, 2.0),
    mirror: bool = True,
    colour: float = 0.3,
    workers: int = 0,
    threads: int = 2,
    shard: tuple[int, int] = (0, 1),
) -> grain.DatasetIterator[dict[str, Any]]:
    """Endless batches of augmented crops, read ahead of need.

    Every picture comes once in an epoch, in a new order each time. What batch number i holds
    depends on the seed and on i alone, not on workers or threads; and the batches i of all shards
    hold together what a single host with the larger batch would see.

    Args:
        dataset: what to read.
        batch: crops in a batch, on this host.
        crop: their size in pixels, or height and width.
        seed: of the order and of the augmentation.
        scale_range: pictures are scaled by a factor between these.
        mirror: whether left and right may be exchanged.
        colour: brightness, contrast and saturation change by up to this share.
        workers: processes that read. 0 reads in threads of this one, which starts faster. Scripts
            that ask for workers need the usual ``if __name__ == "__main__":``, and should keep the
            iterator in a function, since as a global it dies too late and noisily.
        threads: that read, in this process or in each worker.
        shard: index of this host, and number of hosts.

    Returns:
        An iterator of `image` float32 ``[batch, h, w, 3]`` and `labels` int32 ``[batch, h, w]``.
        `get_state()` gives its position as a dictionary for JSON, `set_state()` goes back to it,
        with the same arguments.
    """
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard must be (index, count) with 0 <= index < count, got {shard}")
    change = partial(
        _changed,
        crop=(crop, crop) if isinstance(crop, int) else crop,
        scale_range=scale_range,
        mirror=mirror,
        colour=colour,
    )
    # Shards take turns in one endless sequence, so none runs ahead of the others at epochs' ends.
    samples = grain.MapDataset.range(len(dataset)).seed(seed).shuffle().repeat()
    crops = samples.map(dataset.read).random_map(change)[index::count]
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    batches = crops.batch(batch, drop_remainder=True).to_iter_dataset(reading)
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain reads flags of its own, and wants them parsed
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    iterator = iter(batches)
    if workers:  # ends them before Python takes down the queues they speak through
        atexit.register(iterator.close)
    return iterator


def _changed(
    pair: tuple[np.ndarray, np.ndarray], random: np.random.Generator, **options: Any
) -> dict[str, np.ndarray]:
    return augment(*pair, random, **options)


def eval_pictures(
    dataset: Dataset, shard: tuple[int, int] = (0, 1), *, threads: int = 2
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Every picture of this host's shard once, at full size, in order, read ahead of need.

    Yields:
        Name, picture uint8 ``[H, W, 3]`` (`augment.normalize` makes the network's input of it) and
        labels uint8 ``[H, W]``.
    """
    index, count = shard
    indices = grain.MapDataset.range(len(dataset))[index::count]
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(indices.map(lambda i: (dataset.name(i), *dataset.read(i))).to_iter_dataset(reading))

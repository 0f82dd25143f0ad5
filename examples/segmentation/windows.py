"""Predictions at full size, from windows that slide over the picture.

Used in training and by predict.py, so nothing of the loss is imported here.
"""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segmentation.models import Network, Weights

OVERLAP = 1 / 3  # of the window, between neighbours

# Normalized image float32 [H, W, 3] to classes uint8 [H, W].
Predict = Callable[[np.ndarray], np.ndarray]


def predictor(
    network: Network, window: tuple[int, int], batch: int
) -> Callable[[Weights], Predict]:
    """``weights -> (image -> classes)``.

    Windows are all of one size and come in batches of one size, over the devices of this process,
    so that one program serves pictures of every size.
    """
    mesh = Mesh(np.array(jax.local_devices()), ("data",))
    everywhere, spread = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    batch = -(-batch // mesh.size) * mesh.size
    probabilities = jax.jit(
        lambda weights, images: jax.nn.softmax(network.predict(weights, images))
    )

    def with_weights(weights: Weights) -> Predict:
        weights = jax.device_put(jax.tree.map(local, weights), everywhere)

        def predict(image: np.ndarray) -> np.ndarray:
            height, width = image.shape[:2]
            short = [max(w - n, 0) for w, n in zip(window, (height, width), strict=True)]
            image = np.pad(image, ((0, short[0]), (0, short[1]), (0, 0)))  # 0 is the mean colour
            regions = list(cover(image.shape[:2], window))
            classes = np.empty(image.shape[:2], np.uint8)
            # Sums over windows, of the rows that further windows may reach. Softmax orders the
            # classes as sigmoids of the same logits do. Where more windows meet all sums are
            # larger alike, so the largest stays the largest.
            top, sums = 0, None
            for first in range(0, len(regions), batch):
                here = regions[first : first + batch]
                crops = [image[region] for region in here]
                crops += [crops[-1]] * (batch - len(crops))
                results = np.asarray(
                    probabilities(weights, jax.device_put(np.stack(crops), spread))
                )
                if sums is None:
                    sums = np.zeros((window[0], image.shape[1], results.shape[-1]), np.float32)
                for (rows, columns), result in zip(here, results, strict=False):
                    if done := rows.start - top:
                        classes[top : rows.start] = sums[:done].argmax(-1)
                        sums = np.concatenate([sums[done:], np.zeros_like(sums[:done])])
                        top = rows.start
                    sums[:, columns] += result
            assert sums is not None
            classes[top:] = sums.argmax(-1)
            return classes[:height, :width]

        return predict

    return with_weights


def local(array: jax.Array) -> np.ndarray:
    """This process's copy of an array that every device holds."""
    return np.asarray(array.addressable_data(0) if isinstance(array, jax.Array) else array)


def cover(size: tuple[int, ...], window: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Windows spread evenly over a picture, neighbours with at least OVERLAP in common."""

    def starts(length: int, side: int) -> list[int]:
        count = 1 + int(np.ceil((length - side) / (side * (1 - OVERLAP))))
        return np.linspace(0, length - side, count).round().astype(int).tolist()

    for row in starts(size[0], window[0]):
        for column in starts(size[1], window[1]):
            yield np.s_[row : row + window[0], column : column + window[1]]

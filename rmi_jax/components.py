"""The components of every region of a map, in the orthonormal basis of `regions.dct_matrix`.

Their rows are ordered by component first and by map second, the last axis varying slowest. So each
axis only appends to the rows of the axis before, all maps at once, which every compiler does well.
All other files order by map first.
"""

from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.geometry import Regions
from rmi_jax.regions import dct_matrix


def components(maps: jax.Array, regions: Regions) -> list[jax.Array]:
    """Components of the regions of ``[B, m, *cells]`` maps, in parts ``[B, ..., *positions]``.

    Row ``i m + j`` of all parts together is component i of map j. A TPU copies what is concatenated
    here and flattened later, but not what is flattened first. So that is left to the caller.
    """
    parts = [maps]
    for axis, (size, dilation, stride) in enumerate(zip(*regions, strict=True), start=2):
        maps = jnp.concatenate(parts, axis=1)
        count = (maps.shape[axis] - (size - 1) * dilation - 1) // stride + 1
        taps = [
            lax.slice_in_dim(maps, start, start + (count - 1) * stride + 1, stride, axis)
            for start in range(0, size * dilation, dilation)
        ]
        parts = [
            reduce(add, (c * tap for c, tap in zip(row.tolist(), taps, strict=True) if c))
            for row in dct_matrix(size)
        ]
    return parts


def by_component(a: jax.Array, maps: int, axis: int) -> jax.Array:
    """Reorders an axis that is ordered by map first."""
    return _swapped(a, (maps, a.shape[axis] // maps), axis)


def by_map(a: jax.Array, maps: int, axis: int) -> jax.Array:
    """Reorders an axis that is ordered by component first."""
    return _swapped(a, (a.shape[axis] // maps, maps), axis)


def _swapped(a: jax.Array, sizes: tuple[int, int], axis: int) -> jax.Array:
    axis %= a.ndim
    split = a.reshape(*a.shape[:axis], *sizes, *a.shape[axis + 1 :])
    return jnp.swapaxes(split, axis, axis + 1).reshape(a.shape)

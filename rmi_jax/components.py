"""The components of every region of a map, in the orthonormal basis of `regions.dct_matrix`."""

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.geometry import Regions
from rmi_jax.regions import dct_matrix


def components(maps: jax.Array, regions: Regions) -> jax.Array:
    """Components of the regions of ``[B, m, *cells]`` maps, ``[B, m d, *positions]``.

    Row ``j d + i`` is component i of map j. Components of the last axis vary slowest, so that each
    axis only appends to the rows of the axis before, which every compiler does well.
    """
    outputs = maps.shape[1]
    for axis, (size, dilation, stride) in enumerate(zip(*regions, strict=True), start=2):
        count = (maps.shape[axis] - (size - 1) * dilation - 1) // stride + 1
        taps = [
            lax.slice_in_dim(maps, start, start + (count - 1) * stride + 1, stride, axis)
            for start in range(0, size * dilation, dilation)
        ]
        each = maps.shape[1] // outputs
        rows = [
            sum(
                float(coefficient) * lax.slice_in_dim(tap, j * each, (j + 1) * each, axis=1)
                for coefficient, tap in zip(row, taps, strict=True)
                if coefficient
            )
            for j in range(outputs)
            for row in dct_matrix(size)
        ]
        maps = jnp.concatenate(rows, axis=1)
    return maps

"""One class of every image, swept in strips of rows: region statistics and their gradient.

Region vectors are never stored. A strip holds a few rows of them, in the orthonormal basis of
`regions.dct_matrix`, and is small enough to stay in cache on a CPU. Its columns are ``z``, the
components of the region in each of the maps.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.geometry import Regions
from rmi_jax.loops import zeros_like_images
from rmi_jax.regions import dct_matrix

# Bytes of region vectors in flight. A CPU wants them in its second-level cache; an accelerator
# wants every core busy, in a fraction of its memory.
_STRIP_BYTES = {"cpu": 2 << 20}
_STRIP_BYTES_ACCELERATOR = 256 << 20


class Moments(NamedTuple):
    """Weighted sums over region positions."""

    second: jax.Array  # [B, 2d, 2d] of z z'
    first: jax.Array  # [B, 2d] of z


class Change(NamedTuple):
    """A change of basis for the columns ``z``."""

    matrix: jax.Array  # [B, 2d, 2d]
    wanted: jax.Array  # scalar bool: whether it differs from the identity for any image


class Sweep(NamedTuple):
    """What it takes to go over the region positions of ``[B, *cells]`` maps, shared by classes."""

    weights: jax.Array  # weights of the positions [B, *positions]
    rows: int  # rows of positions in a strip
    even: jax.Array  # [strips] whether all weights of the strip are 1
    regions: Regions


def plan(weights: jax.Array, regions: Regions) -> Sweep:
    """Cuts the positions into strips."""
    batch, positions, *others = weights.shape
    budget = _STRIP_BYTES.get(jax.default_backend(), _STRIP_BYTES_ACCELERATOR)
    row_bytes = 2 * regions.dim * batch * math.prod(others) * weights.dtype.itemsize
    rows = max(1, min(positions, budget // row_bytes))
    ones = jnp.all(weights == 1, axis=tuple(range(2, weights.ndim)))
    strips = math.ceil(positions / rows)
    padded = jnp.pad(ones, ((0, 0), (0, strips * rows - positions)))  # the last strip repeats rows
    even = jnp.all(padded.reshape(batch, strips, rows), axis=(0, 2))
    return Sweep(weights, rows, even, regions)


def moments(
    maps: jax.Array,
    sweep: Sweep,
    columns: Callable[[jax.Array], tuple[jax.Array, ...]] = lambda z: (z,),
) -> tuple[Moments, ...]:
    """Weighted sums over all region positions.

    Args:
      maps: ``[B, 2, *cells]``.
      sweep: the positions.
      columns: what is summed, each ``[B, m, n]``, as a function of ``z`` ``[B, 2d, n]``.
    """

    def add(totals, z, w, weigh, *_):
        return tuple(
            Moments(
                total.second + _matmul("bin,bjn->bij", weigh(x), x),
                total.first + _matmul("bin,bn->bi", x, w),
            )
            for total, x in zip(totals, columns(z), strict=True)
        )

    z = jax.ShapeDtypeStruct((maps.shape[0], 2 * sweep.regions.dim, 1), maps.dtype)
    dims = [x.shape[1] for x in jax.eval_shape(columns, z)]
    start = tuple(
        Moments(zeros_like_images(maps, (dim, dim)), zeros_like_images(maps, (dim,)))
        for dim in dims
    )
    return _fold(maps, sweep, start, add)


def pull_back(
    maps: jax.Array, sweep: Sweep, matrix: jax.Array, mean: jax.Array, change: Change
) -> jax.Array:
    """Gradient maps from a linear function of the region vectors, scattered back onto the cells.

    Args:
      maps: ``[B, 2, *cells]``.
      sweep: the positions.
      matrix: ``[B, m d, 2d]``: the gradient of a region of m maps is ``matrix C (z - mean)``.
      mean: ``[B, 2d]``.
      change: C.

    Returns:
      ``[B, m, *cells]``.
    """
    shape = (matrix.shape[1] // sweep.regions.dim, *maps.shape[2:])
    mean = mean[..., None]
    # Where nothing is changed, the mean is subtracted from fewer rows after the product.
    shift = jnp.where(change.wanted, 0, _matmul("bij,bjn->bin", matrix, mean))

    def components(strip):
        return _components(strip, sweep.regions)

    def changed(z):
        return _matmul("bij,bjn->bin", change.matrix, z - mean)

    def add(gradient, z, _, weigh, row, strip_rows):
        z = lax.cond(change.wanted, changed, lambda z: z, z)
        pulled = weigh(_matmul("bij,bjn->bin", matrix, z) - shift)
        strip = lax.dynamic_slice_in_dim(gradient, row, strip_rows, 2)
        (piece,) = jax.vjp(components, strip)[1](pulled)
        return lax.dynamic_update_slice_in_dim(gradient, strip + piece, row, 2)

    return _fold(maps, sweep, zeros_like_images(maps, shape), add)


def _fold(maps: jax.Array, sweep: Sweep, start: Any, add: Callable[..., Any]) -> Any:
    """Folds ``add(carry, z, weights, weigh, first row, rows)`` over strips of positions."""
    weights, rows, even, regions = sweep
    positions, stride = weights.shape[1], regions.stride[0]
    reach = stride * (rows - 1) + regions.span[0] + 1

    def step(i, carry):
        first = jnp.minimum(i * rows, positions - rows)
        strip = lax.dynamic_slice_in_dim(maps, first * stride, reach, 2)
        z = _components(strip, regions)
        # The last strip is moved back to fit; what it shares with the one before counts once.
        fresh = first + jnp.arange(rows) >= i * rows
        w = lax.dynamic_slice_in_dim(weights, first, rows, 1)
        w = jnp.where(fresh.reshape(-1, *[1] * (w.ndim - 2)), w, 0).reshape(w.shape[0], -1)

        def weigh(values):
            return lax.cond(even[i], lambda v: v, lambda v: v * w[:, None], values)

        return add(carry, z, w, weigh, first * stride, reach)

    return lax.fori_loop(0, math.ceil(positions / rows), step, start)


def _components(maps: jax.Array, regions: Regions) -> jax.Array:
    """Components of the regions of ``[B, m, *cells]`` maps, ``[B, m d, n]``.

    Row ``j d + i`` is component i of map j, those of the last axis varying slowest: each axis then
    only appends to the array before it, which every compiler does well.
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
                float(weight) * lax.slice_in_dim(tap, j * each, (j + 1) * each, axis=1)
                for weight, tap in zip(row, taps, strict=True)
                if weight
            )
            for j in range(outputs)
            for row in dct_matrix(size)
        ]
        maps = jnp.concatenate(rows, axis=1)
    return maps.reshape(*maps.shape[:2], -1)


def _matmul(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(spec, a, b, precision=lax.Precision.HIGHEST)

"""Sums over the regions of a map: first and second moments of their components, strip by strip."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rmi_jax.components import by_component, by_map
from rmi_jax.loops import zeros_like_images
from rmi_jax.matrices import transpose
from rmi_jax.strips import Parts, Sweep, by_platform, fold, join, product, weigh, widened


class Moments(NamedTuple):
    """Weighted sums over region positions."""

    second: jax.Array  # [B, 2d, 2d] of z z'
    first: jax.Array  # [B, 2d] of z


def moments(maps: jax.Array, sweep: Sweep) -> Moments:
    """Weighted sums of ``z`` over all region positions of ``[B, 2, *cells]`` maps."""
    (sums,) = _moments(maps, sweep, lambda parts: parts, [2 * sweep.regions.dim])
    first, second = by_map(sums.first, 2, -1), by_map(by_map(sums.second, 2, -1), 2, -2)
    return Moments(second, first)


def moments_of(
    maps: jax.Array, sweep: Sweep, mean: jax.Array, *matrices: jax.Array
) -> tuple[Moments, ...]:
    """The same of ``matrix (z - mean)`` for each of the matrices.

    Args:
      maps: ``[B, m, *cells]``.
      sweep: the positions.
      mean: ``[B, m d]``.
      matrices: ``[B, rows, m d]``.
    """
    stacked = by_component(jnp.concatenate(matrices, axis=1), maps.shape[1], -1)
    mean = by_component(mean, maps.shape[1], -1)[..., None]

    def changed(parts):
        # The mean is subtracted before the product, which may scale small columns up: if it were
        # left in them, it would cost the scatter its digits.
        return [product("bij,bjn->bin", stacked, join(parts) - mean)]

    return _moments(maps, sweep, changed, [m.shape[1] for m in matrices])


def _moments(
    maps: jax.Array, sweep: Sweep, columns: Callable[[Parts], Parts], dims: Sequence[int]
) -> tuple[Moments, ...]:
    """Moments of groups of columns with so many rows each, without those between the groups."""
    regions = sweep.regions
    ends = itertools.accumulate(dims)
    groups = [slice(end - dim, end) for dim, end in zip(dims, ends, strict=True)]
    rows = sum(dims)

    def cpu(maps, weights, even):
        def add(totals, strip):
            joined = join(columns(strip.parts))
            return tuple(
                Moments(
                    total.second + product("bin,bjn->bij", weigh(x, strip, even), x),
                    total.first + product("bin,bn->bi", x, strip.weights[:, 0]),
                )
                for total, x in zip(totals, (joined[:, group] for group in groups), strict=True)
            )

        start = tuple(
            Moments(zeros_like_images(maps, (dim, dim)), zeros_like_images(maps, (dim,)))
            for dim in dims
        )
        # However many the columns are, the strips must be those that `even` was computed for.
        return fold("cpu", maps, weights, regions, start, add)

    def accelerator(platform, maps, weights):
        def add(total, strip):
            # A row of ones, so that one product gives second moments and sums.
            root = jnp.sqrt(strip.weights)
            parts = [*(part * root for part in columns(strip.parts)), root]
            return total + _products(platform, parts)

        maps = widened(maps, weights, regions)
        start = zeros_like_images(maps, (rows + 1, rows + 1))
        total = fold(platform, maps, weights, regions, start, add, len(dims))
        return tuple(Moments(total[:, group, group], total[:, -1, group]) for group in groups)

    return by_platform(cpu, accelerator, maps, sweep)


def _products(platform: str, parts: Parts) -> jax.Array:
    """``z z'`` of the parts of ``z``; one product on all platforms but a TPU."""
    if platform != "tpu":
        parts = [join(parts)]
    else:  # a TPU copies what it joins, so only the row of weights is joined to a part
        *parts, last, row = parts
        parts = [*parts, join([last, row])]
    blocks = [[product("bin,bjn->bij", a, b) for b in parts[: i + 1]] for i, a in enumerate(parts)]
    count = range(len(parts))
    rows = [[blocks[i][j] if j <= i else transpose(blocks[j][i]) for j in count] for i in count]
    return jnp.concatenate([jnp.concatenate(row, axis=2) for row in rows], axis=1)

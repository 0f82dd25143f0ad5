"""Sums over the regions of a map: first and second moments of their components, strip by strip."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rmi_jax.components import by_map
from rmi_jax.loops import zeros_like_images
from rmi_jax.matrices import transpose
from rmi_jax.strips import Parts, Sweep, by_platform, fold, join, product, weigh, widened

Columns = Callable[[jax.Array], tuple[jax.Array, ...]]


class Moments(NamedTuple):
    """Weighted sums over region positions."""

    second: jax.Array  # [B, 2d, 2d] of z z'
    first: jax.Array  # [B, 2d] of z


def moments(maps: jax.Array, sweep: Sweep) -> Moments:
    """Weighted sums of ``z`` over all region positions of ``[B, 2, *cells]`` maps."""
    (sums,) = _moments(maps, sweep, lambda parts: (parts,))
    first, second = by_map(sums.first, 2, -1), by_map(by_map(sums.second, 2, -1), 2, -2)
    return Moments(second, first)


def moments_of(maps: jax.Array, sweep: Sweep, columns: Columns) -> tuple[Moments, ...]:
    """The same of other columns, each ``[B, m, n]``, functions of ``z`` ``[B, 2d, n]``."""

    def of_parts(parts):
        return tuple([x] for x in columns(by_map(join(parts), 2, 1)))

    return _moments(maps, sweep, of_parts)


def _moments(
    maps: jax.Array, sweep: Sweep, groups: Callable[[Parts], tuple[Parts, ...]]
) -> tuple[Moments, ...]:
    regions = sweep.regions
    z = jax.ShapeDtypeStruct((maps.shape[0], 2 * regions.dim, 1), maps.dtype)
    dims = [sum(x.shape[1] for x in group) for group in jax.eval_shape(groups, [z])]

    def cpu(maps, weights, even):
        def add(totals, strip):
            return tuple(
                Moments(
                    total.second + product("bin,bjn->bij", weigh(x, strip, even), x),
                    total.first + product("bin,bn->bi", x, strip.weights[:, 0]),
                )
                for total, x in zip(totals, map(join, groups(strip.parts)), strict=True)
            )

        start = tuple(
            Moments(zeros_like_images(maps, (dim, dim)), zeros_like_images(maps, (dim,)))
            for dim in dims
        )
        return fold("cpu", maps, weights, regions, start, add)

    def accelerator(platform, maps, weights):
        def add(totals, strip):
            # A row of ones, so that one product gives second moments and sums.
            root = jnp.sqrt(strip.weights)
            return tuple(
                total + _products(platform, [*(part * root for part in group), root])
                for total, group in zip(totals, groups(strip.parts), strict=True)
            )

        maps = widened(maps, weights, regions)
        start = tuple(zeros_like_images(maps, (dim + 1, dim + 1)) for dim in dims)
        totals = fold(platform, maps, weights, regions, start, add, len(dims))
        return tuple(Moments(total[:, :-1, :-1], total[:, -1, :-1]) for total in totals)

    return by_platform(cpu, accelerator, maps, sweep)


def _products(platform: str, parts: Parts) -> jax.Array:
    """``z z'`` of the parts of ``z``; one product on all platforms but a TPU."""
    if platform != "tpu":
        parts = [join(parts)]
    else:  # to join its parts a TPU would copy them, but for a row of their weights
        *parts, last, row = parts
        parts = [*parts, join([last, row])]
    blocks = [[product("bin,bjn->bij", a, b) for b in parts[: i + 1]] for i, a in enumerate(parts)]
    count = range(len(parts))
    rows = [[blocks[i][j] if j <= i else transpose(blocks[j][i]) for j in count] for i in count]
    return jnp.concatenate([jnp.concatenate(row, axis=2) for row in rows], axis=1)

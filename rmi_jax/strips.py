"""One class of every image, swept in strips of rows: region statistics and their gradient.

Region vectors are never stored. A strip holds a few rows of them, in the orthonormal basis of
`regions.dct_matrix`. Its columns are ``z``, the components of the region in each of the maps.

How a strip is handled is chosen when the program is lowered, for the platform that it will run on.
On a CPU strips stay in cache, and weights are left out where all are 1. On an accelerator such a
choice would wait for the host or copy the columns, so weights always multiply. A row of ones is
added to the columns there, so that one product gives second moments and sums, and the last axis is
padded to a width that matrix units like.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.components import by_component, by_map, components
from rmi_jax.geometry import Regions
from rmi_jax.loops import zeros_like_images

# Bytes of region vectors in flight. A CPU wants them in its second-level cache, a TPU in its vector
# memory; any other accelerator wants every core busy, in a fraction of its memory.
_STRIP_BYTES = {"cpu": 2 << 20, "tpu": 24 << 20}
_STRIP_BYTES_ACCELERATOR = 48 << 20
_WIDTH = 8  # the last axis of an accelerator's strips is a multiple of this

Columns = Callable[[jax.Array], tuple[jax.Array, ...]]
Parts = list[jax.Array]  # of z, to be concatenated


class Moments(NamedTuple):
    """Weighted sums over region positions."""

    second: jax.Array  # [B, 2d, 2d] of z z'
    first: jax.Array  # [B, 2d] of z


class Change(NamedTuple):
    """A change of basis for the columns ``z``."""

    matrix: jax.Array  # [B, 2d, 2d]
    wanted: jax.Array  # scalar bool: whether it differs from the identity for any image


class Sweep(NamedTuple):
    """How to go over the region positions of ``[B, *cells]`` maps; the same for all classes."""

    weights: jax.Array  # weights of the positions [B, *positions]
    even: jax.Array  # [a CPU's strips] whether all weights of the strip are 1
    wide: jax.Array  # weights for an accelerator, whose last axis is padded by zeros
    regions: Regions


def plan(weights: jax.Array, regions: Regions) -> Sweep:
    """Prepares the positions."""
    batch, positions, *others = weights.shape
    rows = _rows("cpu", weights.shape, regions, weights.dtype)
    ones = jnp.all(weights == 1, axis=tuple(range(2, weights.ndim)))
    strips = math.ceil(positions / rows)
    padded = jnp.pad(ones, ((0, 0), (0, strips * rows - positions)))  # the last strip repeats rows
    even = jnp.all(padded.reshape(batch, strips, rows), axis=(0, 2))
    return Sweep(weights, even, _padded(weights, -weights.shape[-1] % _WIDTH), regions)


def moments(maps: jax.Array, sweep: Sweep) -> Moments:
    """Weighted sums of ``z`` over all region positions of ``[B, 2, *cells]`` maps."""
    (sums,) = _moments(maps, sweep, lambda parts: (parts,))
    first, second = by_map(sums.first, 2, -1), by_map(by_map(sums.second, 2, -1), 2, -2)
    return Moments(second, first)


def moments_of(maps: jax.Array, sweep: Sweep, columns: Columns) -> tuple[Moments, ...]:
    """The same of other columns, each ``[B, m, n]``, functions of ``z`` ``[B, 2d, n]``."""

    def of_parts(parts):
        return tuple([x] for x in columns(by_map(_joined(parts), 2, 1)))

    return _moments(maps, sweep, of_parts)


def _moments(
    maps: jax.Array, sweep: Sweep, groups: Callable[[Parts], tuple[Parts, ...]]
) -> tuple[Moments, ...]:
    regions = sweep.regions
    z = jax.ShapeDtypeStruct((maps.shape[0], 2 * regions.dim, 1), maps.dtype)
    dims = [sum(x.shape[1] for x in group) for group in jax.eval_shape(groups, [z])]

    def cpu(maps, weights, even):
        def add(totals, parts, w, i, *_):
            w = _flat(w[:, None])
            return tuple(
                Moments(
                    total.second + _matmul("bin,bjn->bij", _weighed(x, w, even[i]), x),
                    total.first + _matmul("bin,bn->bi", x, w[:, 0]),
                )
                for total, x in zip(totals, map(_joined, groups(parts)), strict=True)
            )

        start = tuple(
            Moments(zeros_like_images(maps, (dim, dim)), zeros_like_images(maps, (dim,)))
            for dim in dims
        )
        return _fold("cpu", maps, weights, regions, start, add)

    def accelerator(platform, maps, weights):
        def add(totals, parts, w, *_):
            root = jnp.sqrt(_flat(w[:, None]))
            return tuple(
                total + _products(platform, [*(part * root for part in group), root])
                for total, group in zip(totals, groups(parts), strict=True)
            )

        maps = _widened(maps, weights, regions)
        start = tuple(zeros_like_images(maps, (dim + 1, dim + 1)) for dim in dims)
        totals = _fold(platform, maps, weights, regions, start, add, len(dims))
        return tuple(Moments(total[:, :-1, :-1], total[:, -1, :-1]) for total in totals)

    return _by_platform(cpu, accelerator, maps, sweep)


def _products(platform: str, parts: Parts) -> jax.Array:
    """``z z'`` of the parts of ``z``; one product on all platforms but a TPU."""
    if platform != "tpu":
        parts = [_joined(parts)]
    else:  # to join its parts a TPU would copy them, but for a row of their weights
        *parts, last, row = parts
        parts = [*parts, _joined([last, row])]
    blocks = [[_matmul("bin,bjn->bij", a, b) for b in parts[: i + 1]] for i, a in enumerate(parts)]
    count = range(len(parts))
    rows = [[blocks[i][j] if j <= i else _transpose(blocks[j][i]) for j in count] for i in count]
    return jnp.concatenate([jnp.concatenate(row, axis=2) for row in rows], axis=1)


def pull_back(
    maps: jax.Array,
    sweep: Sweep,
    matrix: jax.Array,
    mean: jax.Array,
    mean_z: jax.Array,
    change: Change,
) -> jax.Array:
    """Gradient maps from a linear function of the region vectors, scattered back onto the cells.

    Args:
      maps: ``[B, 2, *cells]``.
      sweep: the positions.
      matrix: ``[B, m d, 2d]``: the gradient of a region of m maps is ``matrix C (z - mean)``.
      mean: ``[B, 2d]``.
      mean_z: ``[B, 2d]``, what rounding leaves of the mean of ``C (z - mean)``.
      change: C.

    Returns:
      ``[B, m, *cells]``.
    """
    regions = sweep.regions
    outputs = matrix.shape[1] // regions.dim
    matrix = by_component(by_component(matrix, 2, -1), outputs, -2)
    basis = by_component(by_component(change.matrix, 2, -1), 2, -2)
    mean, mean_z = by_component(mean, 2, -1), by_component(mean_z, 2, -1)
    # Without a change of basis the mean is subtracted after the product, which has fewer rows.
    left = jnp.where(change.wanted, mean_z, mean)[..., None]
    shift, mean = _matmul("bij,bjn->bin", matrix, left), mean[..., None]

    def fold(platform, maps, weights, weigh, changed):
        def add(gradient, parts, w, i, row, strip_rows):
            z = changed(_joined(parts))
            pulled = weigh(_matmul("bij,bjn->bin", matrix, z) - shift, w, i)
            pulled = pulled.reshape(*pulled.shape[:2], *w.shape[1:])
            strip = lax.dynamic_slice_in_dim(gradient, row, strip_rows, 2)
            parts, transposed = jax.vjp(partial(components, regions=regions), strip)
            (piece,) = transposed(jnp.split(pulled, len(parts), axis=1))
            return lax.dynamic_update_slice_in_dim(gradient, strip + piece, row, 2)

        start = zeros_like_images(maps, (outputs, *maps.shape[2:]))
        return _fold(platform, maps, weights, regions, start, add)

    def in_basis(z):
        return _matmul("bij,bjn->bin", basis, z - mean)

    def cpu(maps, weights, even):
        def weigh(pulled, w, i):
            return _weighed(pulled, _flat(w[:, None]), even[i])

        def changed(z):
            return lax.cond(change.wanted, in_basis, lambda z: z, z)

        return fold("cpu", maps, weights, weigh, changed)

    def accelerator(platform, maps, weights):
        def weigh(pulled, w, _):
            return pulled * _flat(w[:, None])

        wide = _widened(maps, weights, regions)
        # Chosen outside of the loop over strips, because every choice waits for the host.
        gradient = lax.cond(
            change.wanted,
            lambda *maps: fold(platform, *maps, weigh, in_basis),
            lambda *maps: fold(platform, *maps, weigh, lambda z: z),
            *(wide, weights),
        )
        return lax.slice_in_dim(gradient, 0, maps.shape[-1], axis=-1)

    return _by_platform(cpu, accelerator, maps, sweep)


def _by_platform(cpu: Callable[..., Any], accelerator: Callable[..., Any], maps, sweep) -> Any:
    """Chooses where the program is lowered: a trace may be for several platforms, or exported."""

    def on(platform):
        return lambda maps, weights, even, wide: accelerator(platform, maps, wide)

    return lax.platform_dependent(
        *(maps, sweep.weights, sweep.even, sweep.wide),
        cpu=lambda maps, weights, even, wide: cpu(maps, weights, even),
        tpu=on("tpu"),
        default=on("default"),
    )


def _rows(
    platform: str, shape: tuple[int, ...], regions: Regions, dtype: jnp.dtype, arrays: int = 1
) -> int:
    """Rows of a strip of positions ``[B, *positions]`` with so many arrays of columns at a time."""
    batch, positions, *others = shape
    budget = _STRIP_BYTES.get(platform, _STRIP_BYTES_ACCELERATOR)
    row_bytes = arrays * 2 * regions.dim * batch * math.prod(others) * dtype.itemsize
    rows = max(1, min(positions, budget // row_bytes))
    # A TPU's registers hold 8 rows.
    return rows // 8 * 8 if platform == "tpu" and 8 < rows < positions else rows


def _widened(maps: jax.Array, weights: jax.Array, regions: Regions) -> jax.Array:
    """Pads the last axis by the cells of all positions that have weights."""
    reach = regions.stride[-1] * (weights.shape[-1] - 1) + regions.span[-1] + 1
    return _padded(maps, max(0, reach - maps.shape[-1]))


def _padded(a: jax.Array, more: int) -> jax.Array:
    return jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, more)])


def _fold(
    platform: str,
    maps: jax.Array,
    weights: jax.Array,
    regions: Regions,
    start: Any,
    add: Callable[..., Any],
    arrays: int = 1,
) -> Any:
    """Folds ``add(carry, parts, weights, strip, first row, rows)`` over strips of positions."""
    positions, stride = weights.shape[1], regions.stride[0]
    rows = _rows(platform, weights.shape, regions, weights.dtype, arrays)
    reach = stride * (rows - 1) + regions.span[0] + 1

    def step(i, carry):
        first = jnp.minimum(i * rows, positions - rows)
        strip = lax.dynamic_slice_in_dim(maps, first * stride, reach, 2)
        parts = components(strip, regions)
        # A CPU copies what is flattened first and joined later, a TPU the other way round.
        parts = [_flat(_joined(parts))] if platform == "cpu" else [_flat(part) for part in parts]
        # The last strip is moved back to fit; what it shares with the one before counts once.
        fresh = first + jnp.arange(rows) >= i * rows
        w = lax.dynamic_slice_in_dim(weights, first, rows, 1)
        w = jnp.where(fresh.reshape(-1, *[1] * (w.ndim - 2)), w, 0)
        return add(carry, parts, w, i, first * stride, reach)

    return lax.fori_loop(0, math.ceil(positions / rows), step, start)


def _weighed(values: jax.Array, w: jax.Array, even: jax.Array) -> jax.Array:
    return lax.cond(even, lambda v: v, lambda v: v * w, values)


def _flat(columns: jax.Array) -> jax.Array:
    """``[B, m, n]`` from ``[B, m, *positions]``."""
    return columns.reshape(*columns.shape[:2], -1)


def _joined(parts: Parts) -> jax.Array:
    return jnp.concatenate(parts, axis=1)


def _transpose(a: jax.Array) -> jax.Array:
    return jnp.swapaxes(a, -1, -2)


def _matmul(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(spec, a, b, precision=lax.Precision.HIGHEST)

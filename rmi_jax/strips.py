"""One class of every image, swept in strips of rows.

Region vectors are never stored. A strip holds a few rows of them, in the orthonormal basis of
`regions.dct_matrix`. Its columns are ``z``, the components of the region in each of the maps.

How a strip is handled is chosen when the program is lowered, for the platform that it will run on.
On a CPU strips stay in cache, and weights are left out where all are 1. On an accelerator such a
choice would wait for the host or copy the columns, so weights always multiply, and the last axis
is padded to a width that matrix units like.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.components import components
from rmi_jax.geometry import Regions

# Bytes of region vectors in flight. A CPU wants them in its second-level cache, a TPU in its vector
# memory; any other accelerator wants every core busy, in a fraction of its memory.
_STRIP_BYTES = {"cpu": 2 << 20, "tpu": 24 << 20}
_STRIP_BYTES_ACCELERATOR = 48 << 20
_WIDTH = 8  # the last axis of an accelerator's strips is a multiple of this

Parts = list[jax.Array]  # of z, to be concatenated: [B, ..., n] each


class Strip(NamedTuple):
    """A few rows of region positions."""

    parts: Parts
    weights: jax.Array  # of the positions [B, 1, n]
    number: jax.Array  # of the strip
    row: jax.Array  # the first of its rows of cells
    rows: int  # number of its rows of cells


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


def by_platform(
    cpu: Callable[..., Any], accelerator: Callable[..., Any], maps: jax.Array, sweep: Sweep
) -> Any:
    """Chooses where the program is lowered: a trace may be for several platforms, or exported.

    Args:
      cpu: a function of maps, weights, and which strips have weights of 1 only.
      accelerator: a function of the platform's name, maps, and weights whose last axis is padded.
      maps: ``[B, m, *cells]``.
      sweep: the positions.
    """

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


def widened(maps: jax.Array, weights: jax.Array, regions: Regions) -> jax.Array:
    """Pads the last axis by the cells of all positions that have weights."""
    reach = regions.stride[-1] * (weights.shape[-1] - 1) + regions.span[-1] + 1
    return _padded(maps, max(0, reach - maps.shape[-1]))


def _padded(a: jax.Array, more: int) -> jax.Array:
    return jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, more)])


def fold(
    platform: str,
    maps: jax.Array,
    weights: jax.Array,
    regions: Regions,
    start: Any,
    add: Callable[[Any, Strip], Any],
    arrays: int = 1,
) -> Any:
    """Folds ``add`` over strips of positions, with so many arrays of columns at a time."""
    positions, stride = weights.shape[1], regions.stride[0]
    rows = _rows(platform, weights.shape, regions, weights.dtype, arrays)
    reach = stride * (rows - 1) + regions.span[0] + 1

    def step(i, carry):
        first = jnp.minimum(i * rows, positions - rows)
        strip = lax.dynamic_slice_in_dim(maps, first * stride, reach, 2)
        parts = components(strip, regions)
        # A CPU copies what is flattened first and joined later, a TPU the other way round.
        parts = [_flat(join(parts))] if platform == "cpu" else [_flat(part) for part in parts]
        # The last strip is moved back to fit; what it shares with the one before counts once.
        fresh = first + jnp.arange(rows) >= i * rows
        w = lax.dynamic_slice_in_dim(weights, first, rows, 1)
        w = jnp.where(fresh.reshape(-1, *[1] * (w.ndim - 2)), w, 0)
        return add(carry, Strip(parts, _flat(w[:, None]), i, first * stride, reach))

    return lax.fori_loop(0, math.ceil(positions / rows), step, start)


def weigh(values: jax.Array, strip: Strip, even: jax.Array) -> jax.Array:
    """``values * weights``, on a CPU, where ``even`` tells whether all weights of a strip are 1."""
    return lax.cond(even[strip.number], lambda v: v, lambda v: v * strip.weights, values)


def _flat(columns: jax.Array) -> jax.Array:
    """``[B, m, n]`` from ``[B, m, *positions]``."""
    return columns.reshape(*columns.shape[:2], -1)


def join(parts: Parts) -> jax.Array:
    """``z`` ``[B, m d, n]``."""
    return jnp.concatenate(parts, axis=1)


def product(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """``einsum`` at full float32 precision on every device."""
    return jnp.einsum(spec, a, b, precision=lax.Precision.HIGHEST)

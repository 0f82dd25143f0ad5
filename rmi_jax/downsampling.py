"""Downsampling maps before regions are taken, N-d, with or without a mask of valid pixels."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rmi_jax import checks
from rmi_jax.dtypes import Array, compute_dtype

METHODS = ("avg", "max", "interpolate", "nearest")


def downsample(
    maps: Array,
    factor: int | Sequence[int],
    *,
    method: str = "avg",
    where: Array | None = None,
) -> jax.Array:
    """Downsamples maps by an integer factor, as the paper's code does.

    Without ``where``, pooling windows (kernel = stride = factor) start ``factor // 2`` pixels
    outside the map; ``"avg"`` counts the padded zeros. With ``where``, only valid pixels inside
    the map count, and a cell without any is 0. (On a TPU, where ``"avg"`` is a matrix product, an
    infinity or a NaN spreads along the last spatial axis.)

    Args:
      maps: floating-point maps ``[B, *S, C]`` with 1, 2 or 3 spatial axes.
      factor: pixels per cell along each axis, an int or one per spatial axis.
      method: ``"avg"`` or ``"max"`` pooling, ``"interpolate"`` (linear, corner pixels aligned: the
        authors' choice for probabilities) or ``"nearest"`` (their choice for labels).
      where: optional boolean mask of valid pixels ``[B, *S]``.

    Returns:
      ``[B, *cells, C]`` in the dtype that ``jnp.asarray(maps)`` has. ``cells`` is
      ``(S + 2 * (factor // 2) - factor) // factor + 1`` for pooling, ``S // factor`` otherwise.

    Raises:
      TypeError: if ``maps`` is not floating point or ``factor`` is not an int.
      ValueError: if the method is unknown, or ``"interpolate"`` or ``"nearest"`` would leave no
        cell.
    """
    ndim = checks.floating_maps("maps", maps)
    factors = checks.per_axis("factor", factor, ndim)
    checks.one_of("method", method, METHODS)
    if where is not None:
        checks.mask("where", where, maps.shape[:-1])
    checks.cells_left(maps.shape[1:-1], factors, method)
    where = None if where is None else jnp.asarray(where)
    return resample(jnp.asarray(maps), factors, method, where)


def resample(
    maps: jax.Array, factors: Sequence[int], method: str, where: jax.Array | None = None
) -> jax.Array:
    """`downsample` without its checks."""
    if all(f == 1 for f in factors):
        return maps if where is None else jnp.where(where[..., None], maps, 0)
    if where is None:
        return _resample(maps, factors, method)
    valid = where[..., None]
    if method in ("max", "nearest"):
        lowest = jnp.where(valid, maps, -jnp.inf if method == "max" else 0)
        value = _resample(lowest, factors, method)
        return jnp.where(jnp.isneginf(value), 0, value)
    share = _resample(valid.astype(maps.dtype), factors, method)
    total = _resample(jnp.where(valid, maps, 0), factors, method)
    return jnp.where(share > 0, total / jnp.where(share > 0, share, 1), 0)


def cell_counts(spatial: Sequence[int], factors: Sequence[int], method: str) -> tuple[int, ...]:
    """Number of cells per axis that `downsample` leaves."""
    pooled = method in ("avg", "max")
    return tuple(
        n if f == 1 else (n + 2 * (f // 2) - f) // f + 1 if pooled else n // f
        for n, f in zip(spatial, factors, strict=True)
    )


def _resample(maps: jax.Array, factors: Sequence[int], method: str) -> jax.Array:
    if method == "avg":
        return _avg(maps, tuple(factors))
    for axis, factor in enumerate(factors, start=1):
        if factor > 1:
            maps = _AXIS_METHODS[method](maps, axis, factor)
    return maps


def _windows(maps: jax.Array, axis: int, factor: int, fill: float) -> jax.Array:
    """Splits an axis into ``[cells, factor]``."""
    size = maps.shape[axis]
    (cells,) = cell_counts([size], [factor], "avg")
    before = factor // 2 if factor > 1 else 0
    padding = [(0, 0, 0)] * maps.ndim
    # A negative end crops what fills no window.
    padding[axis] = (before, cells * factor - before - size, 0)
    padded = lax.pad(maps, jnp.asarray(fill, maps.dtype), padding)
    return padded.reshape(*maps.shape[:axis], cells, factor, *maps.shape[axis + 1 :])


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _avg(maps: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    # A windowed sum: compilers fuse what computes the maps into it.
    return _by_platform(_windowed_mean, maps, factors)


@_avg.defjvp
def _avg_jvp(factors, primals, tangents):
    # A sum over split axes: its transpose is a broadcast.
    (maps,), (tangent,) = primals, tangents
    return _avg(maps, factors), _by_platform(_mean_of_windows, tangent, factors)


def _by_platform(
    mean: Callable[..., jax.Array], maps: jax.Array, factors: tuple[int, ...]
) -> jax.Array:
    """The mean over windows, on a TPU with its last axis by a product.

    A TPU has that axis on its lanes: to split, add or repeat them is a relayout of the maps. What
    computes the maps fuses into a product.
    """
    *others, last = factors
    ndim = len(factors)

    def as_it_is(maps):
        return mean(maps, factors)

    def with_product(maps):
        # In this order of axes its transpose writes the layout that logits have there.
        columns = jnp.moveaxis(maps, (0, ndim), (-2, -1))
        windows = _windows_of(maps.shape[ndim], last, maps.dtype)
        # Zeros and ones need only one part of a TPU's three-part products.
        precision = (lax.Precision.HIGHEST, lax.Precision.DEFAULT)
        columns = jnp.tensordot(columns, windows, (-1, 1), precision=precision) / last
        return mean(jnp.moveaxis(columns, (-2, -1), (0, ndim)), (*others, 1))

    # Traced for a TPU only where it is another.
    methods = {"tpu": with_product} if last > 1 else {}
    wide = maps.astype(compute_dtype(maps.dtype))
    return lax.platform_dependent(wide, **methods, default=as_it_is).astype(maps.dtype)


def _windowed_mean(maps: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    padding = [(0, 0), *((f // 2, f // 2) if f > 1 else (0, 0) for f in factors), (0, 0)]
    window = (1, *factors, 1)
    sums = lax.reduce_window(maps, 0.0, lax.add, window, window, padding)
    return sums / math.prod(factors)


def _mean_of_windows(maps: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    ndim = len(factors)
    for axis in reversed(range(ndim)):
        maps = _windows(maps, axis + 1, factors[axis], 0)
    return jnp.mean(maps, axis=tuple(range(2, 2 * ndim + 1, 2)))


def _windows_of(size: int, factor: int, dtype: jnp.dtype) -> jax.Array:
    """Which pixels of an axis a window has, as zeros and ones ``[cells, size]``."""
    (cells,) = cell_counts([size], [factor], "avg")
    window = (np.arange(size) + factor // 2) // factor
    return jnp.asarray(window == np.arange(cells)[:, None], dtype)


def _max(maps: jax.Array, axis: int, factor: int) -> jax.Array:
    return jnp.max(_windows(maps, axis, factor, -jnp.inf), axis=axis + 1)


def _nearest(maps: jax.Array, axis: int, factor: int) -> jax.Array:
    size = maps.shape[axis]
    cells = size // factor
    return jnp.take(maps, np.arange(cells) * size // cells, axis=axis)


def _interpolate(maps: jax.Array, axis: int, factor: int) -> jax.Array:
    size = maps.shape[axis]
    cells = size // factor
    # In integers: a rounded weight of 1e-16 would count an ignored neighbour as valid.
    low, remainder = np.divmod(np.arange(cells) * (size - 1), max(cells - 1, 1))
    shape = [1] * maps.ndim
    shape[axis] = cells
    weight = jnp.asarray((remainder / max(cells - 1, 1)).reshape(shape), maps.dtype)
    lower, upper = (jnp.take(maps, np.minimum(low + i, size - 1), axis=axis) for i in (0, 1))
    return lower * (1 - weight) + upper * weight


_AXIS_METHODS = {"max": _max, "nearest": _nearest, "interpolate": _interpolate}

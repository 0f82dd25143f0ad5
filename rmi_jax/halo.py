"""Images whose rows are sharded over devices: which rows a device reads, and which it counts.

Inside ``shard_map``, every device holds some rows (the first spatial axis) of an image. It borrows
from its two neighbours the few rows that its own regions reach into, and counts the regions that
start on its own rows. Sums are then taken over the devices, so that the statistics, and all that
follows from them, are those of the whole image, the same on every device.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.downsampling import cell_counts
from rmi_jax.geometry import Halo, Maps, Scale

# Weight of borrowed rows beyond the edge of the image, which even ``ignored="zero"`` leaves out.
OUTSIDE = -1


def make_halo(axis_name: str, rows: int, scales: tuple[Scale, ...]) -> Halo:
    """How many rows a device with ``rows`` of its own borrows, to serve all scales.

    Raises:
      ValueError: if rows of a device do not divide into cells, or its regions reach past the
        neighbours, or an option cannot be computed on a part of the image.
    """
    reach = 0
    for scale in scales:
        factor, regions = scale.factors[0], scale.regions
        if rows % factor:
            raise ValueError(
                f"spatial_axis_name leaves {rows} rows on a device, which factor {factor} does not "
                "divide; use a number of rows that divides by factor and devices, or pad with "
                "ignored rows"
            )
        if factor > 1 and scale.downsampling == "interpolate":
            raise ValueError(
                "downsampling='interpolate' reads pixels at places that depend on the whole image, "
                "which spatial_axis_name divides; use 'avg' or 'max', or a factor of 1 for rows"
            )
        if regions.stride[0] > 1:
            raise ValueError(
                f"region_stride {regions.stride[0]} along the axis that spatial_axis_name divides "
                f"is not supported; use {(1, *regions.stride[1:])}"
            )
        reach = max(reach, regions.span[0] * factor - factor // 2)
    before = math.lcm(*(scale.factors[0] for scale in scales))
    before = 0 if before == 1 else before
    if max(before, reach) > rows:
        raise ValueError(
            f"spatial_axis_name leaves {rows} rows on a device, fewer than the "
            f"{max(before, reach)} rows that regions reach into its neighbour; use fewer devices "
            "along this axis, or a smaller factor, region_size or dilation"
        )
    return Halo(axis_name, rows, before, reach)


def exchange(maps: Maps, halo: Halo | None) -> Maps:
    """Adds the neighbours' rows; gradients of these rows go back to where they came from."""
    if halo is None:
        return maps
    weights = maps.pixel_weights
    if weights is None:
        weights = jnp.ones(maps.inputs.shape[:-1], maps.targets.dtype)
    return maps._replace(
        inputs=_extended(maps.inputs, halo),
        targets=_extended(maps.targets, halo),
        pixel_weights=_extended(weights, halo, OUTSIDE),
    )


def owned(weights: jax.Array, scale: Scale, span: int = 0) -> jax.Array:
    """Weights ``[B, *cells]``, set to 0 where a cell is another device's or beyond the image.

    With the ``span`` of the regions, the same for the weights of region positions.
    """
    halo = scale.halo
    if halo is None:
        return weights
    factor, devices = scale.factors[0], lax.axis_size(halo.axis_name)
    first, cells = halo.before // factor, halo.rows // factor
    (all_cells,) = cell_counts([devices * halo.rows], [factor], scale.downsampling)
    # Pooling windows of an even factor start outside of the image, whose end has one cell more.
    last = cells + all_cells - devices * cells - span
    own = jnp.where(lax.axis_index(halo.axis_name) == devices - 1, last, cells)
    index = jnp.arange(weights.shape[1]) - first
    mine = (index >= 0) & (index < own)
    return jnp.where(mine.reshape(-1, *[1] * (weights.ndim - 2)), weights, 0)


def summed(values: Any, halo: Halo | None) -> Any:
    """Sums over the devices that share an image."""
    return values if halo is None else lax.psum(values, halo.axis_name)


def largest(values: jax.Array, halo: Halo | None) -> jax.Array:
    """The largest value of the devices that share an image."""
    return values if halo is None else lax.pmax(values, halo.axis_name)


def _extended(maps: jax.Array, halo: Halo, outside: int = 0) -> jax.Array:
    devices, index = lax.axis_size(halo.axis_name), lax.axis_index(halo.axis_name)
    after = _shifted(maps[:, : halo.after], halo, -1)
    after = jnp.where(index == devices - 1, jnp.asarray(outside, maps.dtype), after)
    parts = [maps, after]
    if halo.before:
        before = _shifted(maps[:, -halo.before :], halo, 1)
        parts.insert(0, jnp.where(index == 0, jnp.asarray(outside, maps.dtype), before))
    return jnp.concatenate(parts, axis=1)


def _shifted(rows: jax.Array, halo: Halo, step: int) -> jax.Array:
    devices = lax.axis_size(halo.axis_name)
    moves = [(i, i + step) for i in range(devices) if 0 <= i + step < devices]
    return lax.ppermute(rows, halo.axis_name, moves)

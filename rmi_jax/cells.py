"""From pixels to cells: downsampling, ignored pixels and the grid of region positions.

``ignored="exclude"`` gives a cell the mean of its valid pixels and their mean weight, 0 where it
has none. ``"zero"`` is the authors' way: ignored pixels stay in as y = 0, p = 1e-6.
"""

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.downsampling import resample
from rmi_jax.geometry import Regions, Scale
from rmi_jax.halo import OUTSIDE

# The authors add this to every probability; at ignored pixels it is all there is.
_MIN_PROB = 1e-6


def zeroed(maps: jax.Array, pixel_weights: jax.Array | None) -> jax.Array:
    """Maps ``[B, *S, K]`` that are 0 where pixels are ignored, whatever they hold there.

    Unless their derivatives are written by hand, activations and logarithms come after it: 0 times
    the NaN that they may return is NaN, in the loss or in its gradient.
    """
    return maps if pixel_weights is None else jnp.where((pixel_weights > 0)[..., None], maps, 0)


def cell_probs(probs: jax.Array, pixel_weights: jax.Array | None, scale: Scale) -> jax.Array:
    """Probabilities of the cells, ``[B, *cells, C]``, from ``[B, *S, C]``."""
    if scale.ignored == "zero":
        probs = _MIN_PROB + zeroed(probs, pixel_weights)
        if scale.halo is not None:  # what is outside the image is zero, as padding is
            probs = jnp.where((pixel_weights == OUTSIDE)[..., None], 0, probs)
        return resample(probs, scale.factors, scale.downsampling)
    return resample(probs, scale.factors, scale.downsampling, _valid(probs, pixel_weights, scale))


def cell_targets(targets: jax.Array, pixel_weights: jax.Array | None, scale: Scale) -> jax.Array:
    """Targets of the cells, ``[B, *cells, C]``, from ``[B, *S, C]``."""
    method = "nearest" if scale.downsampling == "interpolate" else scale.downsampling
    if scale.ignored == "zero":
        return resample(zeroed(targets, pixel_weights), scale.factors, method)
    return resample(targets, scale.factors, method, _valid(targets, pixel_weights, scale))


def cell_weights(pixel_weights: jax.Array | None, scale: Scale) -> jax.Array | None:
    """Weights of the cells, ``[B, *cells]``, from ``[B, *S]``; None where all are 1."""
    if pixel_weights is None or scale.ignored == "zero":
        return None
    valid, maps = pixel_weights > 0, pixel_weights[..., None]
    if scale.downsampling != "interpolate":
        return resample(maps, scale.factors, "avg", valid)[..., 0]
    cells = resample(maps, scale.factors, "nearest", valid)
    # A cell's nearest pixel may be valid where all pixels that interpolation reads are ignored.
    taps = resample(valid[..., None].astype(maps.dtype), scale.factors, "interpolate")
    return jnp.where(taps > 0, cells, 0)[..., 0]


def position_weights(cells: jax.Array, regions: Regions) -> jax.Array:
    """Weights of the region positions ``[B, *positions]``: the least of a region's cells."""
    for axis, (size, dilation, stride) in enumerate(zip(*regions, strict=True), start=1):
        last = cells.shape[axis] - (size - 1) * dilation
        shifted = [
            lax.slice_in_dim(cells, start, start + last, stride, axis)
            for start in range(0, size * dilation, dilation)
        ]
        cells = shifted[0]
        for other in shifted[1:]:
            cells = jnp.minimum(cells, other)
    return cells


def shift_grid(maps: jax.Array, offset: jax.Array | None, regions: Regions) -> jax.Array:
    """Shifts the grid of positions by ``offset`` cells; cells past the end of the map are 0."""
    if offset is None:
        return maps
    ndim = len(regions.stride)
    lead, tail = [(0, 0)], [(0, 0)] * (maps.ndim - 1 - ndim)
    reach = jnp.pad(maps, [*lead, *((0, k - 1) for k in regions.stride), *tail])
    return lax.dynamic_slice(reach, [0, *offset, *(0 for _ in tail)], maps.shape)


def _valid(maps: jax.Array, pixel_weights: jax.Array | None, scale: Scale) -> jax.Array | None:
    if pixel_weights is not None:
        return pixel_weights > 0
    # Nothing is ignored, and at full resolution there is no padding to leave out either.
    return None if all(f == 1 for f in scale.factors) else jnp.ones(maps.shape[:-1], bool)

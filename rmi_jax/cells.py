"""From pixels to cells: the maps and weights that regions are taken from (ignored pixels, pools)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rmi_jax.downsampling import resample
from rmi_jax.geometry import Scale

# The authors add this to every probability, and leave it alone at ignored pixels.
MIN_PROB = 1e-6


class Cells(NamedTuple):
    """Downsampled maps ``[B, *cells, C]`` and cell weights ``[B, *cells]`` (None: all are 1)."""

    probs: jax.Array
    targets: jax.Array
    weights: jax.Array | None


def make_cells(
    probs: jax.Array,
    targets: jax.Array,
    weights: jax.Array | None,
    scale: Scale,
) -> Cells:
    """Downsamples both maps and settles what ignored pixels (weight 0) do.

    ``ignored="exclude"`` gives a cell the mean of its valid pixels and their mean weight, 0 where
    it has none. ``"zero"`` is the authors' way: ignored pixels stay in as y = 0, p = 1e-6.
    """
    factors, downsampling = scale.factors, scale.downsampling
    label_method = "nearest" if downsampling == "interpolate" else downsampling
    if scale.ignored == "zero":
        if weights is not None:
            valid = (weights > 0)[..., None]
            probs, targets = jnp.where(valid, probs, 0), jnp.where(valid, targets, 0)
        probs = resample(probs + MIN_PROB, factors, downsampling)
        return Cells(probs, resample(targets, factors, label_method), None)
    if weights is None:
        if all(f == 1 for f in factors):
            return Cells(probs, targets, None)
        valid = jnp.ones(probs.shape[:-1], bool)
        cell_weights = None
    else:
        valid = weights > 0
        share = "nearest" if downsampling == "interpolate" else "avg"
        cell_weights = resample(weights[..., None], factors, share, valid)[..., 0]
    probs = resample(probs, factors, downsampling, valid)
    targets = resample(targets, factors, label_method, valid)
    if cell_weights is not None and downsampling == "interpolate":
        # A cell's nearest pixel may be valid where none of its four interpolation taps is.
        taps = resample(valid[..., None].astype(probs.dtype), factors, downsampling)[..., 0]
        cell_weights = jnp.where(taps > 0, cell_weights, 0)
    return Cells(probs, targets, cell_weights)

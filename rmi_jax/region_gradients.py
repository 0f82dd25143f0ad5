"""From gradients of regions to gradients of maps, strip by strip: the transpose of `components`."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.components import by_component, components
from rmi_jax.loops import zeros_like_images
from rmi_jax.strips import Sweep, by_platform, fold, join, product, weigh, widened


def pull_back(maps: jax.Array, sweep: Sweep, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """Gradient maps from a linear function of the region vectors, scattered back onto the cells.

    Args:
      maps: ``[B, 2, *cells]``.
      sweep: the positions.
      matrix: ``[B, m d, 2d]``: the gradient of a region of m maps is ``matrix z - shift``.
      shift: ``[B, m d]``.

    Returns:
      ``[B, m, *cells]``.
    """
    regions = sweep.regions
    outputs = matrix.shape[1] // regions.dim
    matrix = by_component(by_component(matrix, 2, -1), outputs, -2)
    shift = by_component(shift, outputs, -1)[..., None]

    def swept(platform, maps, weights, weighed):
        def add(gradient, strip):
            pulled = product("bij,bjn->bin", matrix, join(strip.parts)) - shift
            cells = lax.dynamic_slice_in_dim(gradient, strip.row, strip.rows, 2)
            parts, transposed = jax.vjp(partial(components, regions=regions), cells)
            pulled = weighed(pulled, strip).reshape(*pulled.shape[:2], *parts[0].shape[2:])
            (more,) = transposed(jnp.split(pulled, len(parts), axis=1))
            return lax.dynamic_update_slice_in_dim(gradient, cells + more, strip.row, 2)

        start = zeros_like_images(maps, (outputs, *maps.shape[2:]))
        return fold(platform, maps, weights, regions, start, add)

    def cpu(maps, weights, even):
        return swept("cpu", maps, weights, partial(weigh, even=even))

    def accelerator(platform, maps, weights):
        wide = widened(maps, weights, regions)
        gradient = swept(platform, wide, weights, lambda pulled, strip: pulled * strip.weights)
        return lax.slice_in_dim(gradient, 0, maps.shape[-1], axis=-1)

    return by_platform(cpu, accelerator, maps, sweep)

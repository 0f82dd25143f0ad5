"""From gradients of regions to gradients of maps, strip by strip: the transpose of `components`."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.components import by_component, components
from rmi_jax.loops import zeros_like_images
from rmi_jax.matrices import matmul
from rmi_jax.strips import Sweep, by_platform, fold, join, product, weigh, widened


class Change(NamedTuple):
    """A change of basis for the columns ``z``."""

    matrix: jax.Array  # [B, 2d, 2d]
    wanted: jax.Array  # scalar bool: whether it differs from the identity for any image


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
    shift, mean = matmul(matrix, left), mean[..., None]

    def plain(*parts):
        return product("bij,bjn->bin", matrix, join([*parts]))

    def in_basis(*parts):
        z = product("bij,bjn->bin", basis, join([*parts]) - mean)
        return product("bij,bjn->bin", matrix, z)

    def swept(platform, pull, weighed, maps, weights):
        def add(gradient, strip):
            pulled = weighed(pull(*strip.parts) - shift, strip)
            cells = lax.dynamic_slice_in_dim(gradient, strip.row, strip.rows, 2)
            parts, transposed = jax.vjp(partial(components, regions=regions), cells)
            pulled = pulled.reshape(*pulled.shape[:2], *parts[0].shape[2:])
            (more,) = transposed(jnp.split(pulled, len(parts), axis=1))
            return lax.dynamic_update_slice_in_dim(gradient, cells + more, strip.row, 2)

        start = zeros_like_images(maps, (outputs, *maps.shape[2:]))
        return fold(platform, maps, weights, regions, start, add)

    def cpu(maps, weights, even):
        def either(*parts):
            return lax.cond(change.wanted, in_basis, plain, *parts)

        return swept("cpu", either, partial(weigh, even=even), maps, weights)

    def accelerator(platform, maps, weights):
        def on(pull):
            return partial(swept, platform, pull, lambda pulled, strip: pulled * strip.weights)

        wide = widened(maps, weights, regions)
        # Chosen outside of the loop over strips, because every choice waits for the host.
        gradient = lax.cond(change.wanted, on(in_basis), on(plain), wide, weights)
        return lax.slice_in_dim(gradient, 0, maps.shape[-1], axis=-1)

    return by_platform(cpu, accelerator, maps, sweep)

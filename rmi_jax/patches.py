"""The readable reference: extract every region, then condition truth on prediction per class.

Plain JAX without a custom derivative, so it has forward mode and higher derivatives. It holds all
region vectors in memory: ``streaming`` computes the same numbers in bounded memory.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax import gaussian
from rmi_jax.activations import ACTIVATIONS
from rmi_jax.cells import cell_probs, cell_targets, cell_weights, position_weights, shift_grid
from rmi_jax.gaussian import Terms
from rmi_jax.geometry import Maps, Scale
from rmi_jax.halo import owned, summed
from rmi_jax.regions import extract_regions, region_basis


def region_terms(maps: Maps, jitter: jax.Array, scales: tuple[Scale, ...]) -> list[Terms]:
    """RMI of every scale, image and class (paper eq. 13-15)."""
    return [_scale_terms(maps, jitter, scale) for scale in scales]


def _scale_terms(maps: Maps, jitter: jax.Array, scale: Scale) -> Terms:
    inputs, targets, weights, offset, _ = maps
    inputs = inputs.astype(jitter.dtype)
    probs = ACTIVATIONS[scale.activation](inputs)
    if targets.ndim < inputs.ndim:
        targets = jax.nn.one_hot(targets, inputs.shape[-1], dtype=inputs.dtype)
    cells = cell_weights(weights, scale)
    p = shift_grid(cell_probs(probs, weights, scale), offset, scale.regions)
    y = shift_grid(cell_targets(targets, weights, scale), offset, scale.regions)
    if cells is None:
        cells = jnp.ones_like(y[..., 0])  # sharded as the images are
    cells = shift_grid(cells, offset, scale.regions)
    positions = owned(position_weights(cells, scale.regions), scale, scale.regions.span[0])
    cells = owned(cells, scale)

    size, dilation, stride = scale.regions
    regions = [
        extract_regions(_centred(m, cells, scale), size, dilation=dilation, stride=stride)
        for m in (p, y)
    ]
    p, y = (r.reshape(r.shape[0], -1, *r.shape[-2:]) for r in regions)  # [B, n, d, C]
    pair_terms = partial(_pair_terms, jitter=jitter, scale=scale)
    per_class = jax.vmap(pair_terms, in_axes=(-1, -1, None))
    return jax.vmap(per_class)(p, y, positions.reshape(p.shape[:2]))


def _pair_terms(
    p: jax.Array, y: jax.Array, weights: jax.Array, jitter: jax.Array, scale: Scale
) -> Terms:
    """One image and class: regions ``[n, d]``, weights ``[n]``."""
    regions, halo = scale.regions, scale.halo
    basis = jnp.asarray(region_basis(regions.size), p.dtype)
    p, y = (_centred_rows(gaussian.matmul(r, basis.T), weights, scale) for r in (p, y))
    # Every k-th region stands for k of them, so that alpha keeps its meaning.
    weights = weights * math.prod(regions.stride)
    yp, pp = summed((_dot(y, p, weights), _dot(p, p, weights)), halo)
    slope = lax.stop_gradient(yp / (pp + jitter))
    errors = y - slope * p
    weighted = weights[:, None] * errors
    scatter = gaussian.Scatter(
        gaussian.matmul((weights[:, None] * p).T, p),
        gaussian.matmul(weighted.T, p),
        gaussian.matmul(weighted.T, errors),
    )
    scatter = summed(scatter, halo)
    identity = jnp.eye(regions.dim, dtype=p.dtype)
    guess = slope * identity
    chol = gaussian.condition(scatter, gaussian.Frame(guess, identity, identity), jitter).chol
    chol_y = gaussian.cholesky(gaussian.truth_scatter(scatter, guess, jitter), jitter)
    return gaussian.terms(scatter, guess, chol, chol_y, jitter)


def _dot(a: jax.Array, b: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.sum(weights[:, None] * a * b)


def _centred_rows(rows: jax.Array, weights: jax.Array, scale: Scale) -> jax.Array:
    total = summed(jnp.sum(weights), scale.halo)
    share = weights / jnp.where(total > 0, total, 1)
    return rows - summed(jnp.sum(share[:, None] * rows, axis=0, keepdims=True), scale.halo)


def _centred(maps: jax.Array, weights: jax.Array, scale: Scale) -> jax.Array:
    """Maps minus their mean: region vectors are centred again, on smaller numbers."""
    axes = tuple(range(1, maps.ndim - 1))
    total = summed(jnp.sum(weights, axis=axes, keepdims=True), scale.halo)
    share = (weights / jnp.where(total > 0, total, 1))[..., None]
    return maps - summed(jnp.sum(share * maps, axis=axes, keepdims=True), scale.halo)

"""The readable reference: extract every region, then condition truth on prediction per class.

Plain JAX without a custom derivative, so it has forward mode and higher derivatives. It holds all
region vectors in memory: ``streaming`` computes the same numbers in bounded memory.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax import gaussian, matrices
from rmi_jax.activations import ACTIVATIONS
from rmi_jax.cells import (
    cell_probs,
    cell_targets,
    cell_weights,
    position_weights,
    shift_grid,
    zeroed,
)
from rmi_jax.centring import anchored_slope
from rmi_jax.gaussian import Prior, Terms
from rmi_jax.geometry import Maps, Scale
from rmi_jax.halo import owned, summed
from rmi_jax.regions import extract_regions, region_basis

# Passes in a basis that the last factor whitens (docs/theory, F1b); the reference runs them all.
_FURTHER_PASSES = 4


def terms_of_scales(
    maps: Maps, prior: Prior, scales: tuple[Scale, ...], report: bool
) -> list[Terms]:
    """RMI of every scale, image and class (paper eq. 13-15)."""
    return [_scale_terms(maps, prior, scale, report) for scale in scales]


def _scale_terms(maps: Maps, prior: Prior, scale: Scale, report: bool) -> Terms:
    inputs, targets, pixel_weights, offset, _ = maps
    inputs = zeroed(inputs.astype(prior.jitter.dtype), pixel_weights)
    probs = ACTIVATIONS[scale.activation](inputs)
    if targets.ndim < inputs.ndim:
        targets = jax.nn.one_hot(targets, inputs.shape[-1], dtype=inputs.dtype)
    cells = cell_weights(pixel_weights, scale)
    p = shift_grid(cell_probs(probs, pixel_weights, scale), offset, scale.regions)
    y = shift_grid(cell_targets(targets, pixel_weights, scale), offset, scale.regions)
    if cells is None:
        cells = jnp.ones_like(y[..., 0])  # sharded as the images are
    cells = shift_grid(cells, offset, scale.regions)
    # However each was downsampled: the prediction may be interpolated, labels and weights are not.
    chex.assert_equal_shape_prefix([p, y, cells], cells.ndim)
    positions = owned(position_weights(cells, scale.regions), scale, scale.regions.span[0])
    cells = owned(cells, scale)

    size, dilation, stride = scale.regions
    regions = [
        extract_regions(_centred(m, cells, scale), size, dilation=dilation, stride=stride)
        for m in (p, y)
    ]
    p, y = (r.reshape(r.shape[0], -1, *r.shape[-2:]) for r in regions)  # [B, n, d, C]
    pair_terms = partial(_pair_terms, prior=prior, scale=scale, report=report)
    per_class = jax.vmap(pair_terms, in_axes=(-1, -1, None))
    return jax.vmap(per_class)(p, y, positions.reshape(p.shape[:2]))


def _pair_terms(
    p: jax.Array, y: jax.Array, weights: jax.Array, prior: Prior, scale: Scale, report: bool
) -> Terms:
    """One image and class: regions ``[n, d]``, weights ``[n]``."""
    regions, halo = scale.regions, scale.halo
    basis = jnp.asarray(region_basis(regions.size), p.dtype)
    p, y = (_centred_rows(matrices.matmul(r, basis.T), weights, scale) for r in (p, y))
    weights = weights * regions.thinning

    def scatter(rows):
        return summed(matrices.matmul((weights[:, None] * rows).T, rows), halo)

    pp, yp, yy = summed(
        [jnp.sum(weights[:, None] * a * b) for a, b in ((p, p), (y, p), (y, y))], halo
    )
    # The terms do not depend on the slope and the change of basis, so these have no derivative.
    slope = lax.stop_gradient(anchored_slope(pp, yp, yy, prior))
    errors = jnp.concatenate([p, y - slope * p], axis=1)
    constants = lax.stop_gradient((errors, y))

    def whiten(change, errors, y, prior):
        columns = scatter(matrices.matmul(errors, change.T))
        itself = scatter(matrices.matmul(y, gaussian.of_itself(change, slope).T))
        return gaussian.whiten(columns, itself, change, slope, prior)

    identity = matrices.identity_from(scatter(constants[0]))

    def information(errors, y, prior):
        change = lax.fori_loop(
            0, _FURTHER_PASSES, lambda _, c: whiten(c, *constants, prior).change, identity
        )
        return gaussian.information(whiten(change, errors, y, prior))

    found = information(errors, y, prior)
    chol_y = matrices.cholesky(gaussian.with_jitter(scatter(y), prior.jitter), prior.jitter)
    entropy = gaussian.entropy(chol_y, prior.jitter)
    varies = ~(entropy <= 0)  # so that a NaN counts
    found = jnp.where(varies, found, 0)
    unanchored = None
    if report:
        plain = information(*constants, prior._replace(anchor=jnp.zeros_like(prior.anchor)))
        unanchored = jnp.where(varies & (prior.anchor > 0), plain, found)
    return Terms(
        found,
        entropy,
        unanchored,
        lax.stop_gradient(yp / (pp + prior.jitter)),
    )


def _centred_rows(rows: jax.Array, weights: jax.Array, scale: Scale) -> jax.Array:
    total = summed(jnp.sum(weights), scale.halo)
    share = weights / jnp.where(total > 0, total, 1)
    return rows - summed(jnp.sum(share[:, None] * rows, axis=0, keepdims=True), scale.halo)


def _centred(maps: jax.Array, weights: jax.Array, scale: Scale) -> jax.Array:
    """Maps minus their mean. The components are centred again, which loses fewer digits then."""
    axes = tuple(range(1, maps.ndim - 1))
    total = summed(jnp.sum(weights, axis=axes, keepdims=True), scale.halo)
    share = (weights / jnp.where(total > 0, total, 1))[..., None]
    return maps - summed(jnp.sum(share * maps, axis=axes, keepdims=True), scale.halo)

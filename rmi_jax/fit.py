"""The forward half of the engine: region statistics of every slot, and their joint factor.

A pass over the maps sums the scatter of ``[P; D]``, which `passes` factors.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rmi_jax import gaussian, matrices
from rmi_jax.activations import LogTotal
from rmi_jax.centring import Centring, centred, combined, make_centring, spread
from rmi_jax.gaussian import Prior, Terms
from rmi_jax.geometry import Maps, Scale
from rmi_jax.loops import each_slot
from rmi_jax.passes import Sums, factored, scatter_of
from rmi_jax.planes import make_view, read_cells
from rmi_jax.region_sums import moments
from rmi_jax.slots import Slots, by_class, make_slots


class Fit(NamedTuple):
    """The regression of truth on prediction, ``[C, B, ...]``; all that the backward pass needs."""

    centre: Centring
    mean: jax.Array  # [C, B, 2d] mean of the columns [P; D]
    residual: jax.Array  # [C, B, d, 2d] takes [P; D] - mean to L22^-1 (Y - W P), L22 of M + alpha I
    mean_residual: jax.Array  # [C, B, d] its mean: not 0, because of rounding
    chol_y: jax.Array  # [C, B, d, d] of Y Y' + alpha I
    cells: tuple[jax.Array, jax.Array] | None  # [C, B, *cells] of p and y, where they are kept


def fit(
    scale: Scale,
    maps: Maps,
    log_total: LogTotal | None,
    prior: Prior,
    *,
    report: bool,
    keep: bool,
) -> tuple[Terms, tuple[Slots, Fit]]:
    """Terms ``[B, C]`` of one scale, and what its gradient needs.

    Args:
      scale: how the maps are read.
      maps: the arrays.
      log_total: of the logits, for softmax.
      prior: jitter and anchor.
      report: whether the information without the anchor is wanted too.
      keep: whether the cells are kept for the backward pass.
    """
    view = make_view(maps, log_total, scale, prior.jitter.dtype, pooled=True)
    slots = make_slots(maps, scale)

    def measure(k):
        p, y = read_cells(view, slots.classes[k])
        return spread(p, y, view.cell_weights)

    shared = None
    if scale.halo is not None:
        # A loop of its own, after which one sum over the devices serves all slots.
        parts = each_slot(maps, slots.visits, measure)
        shared = make_centring(combined(parts, view.cell_weights, scale.halo), prior)

    def visit(k):
        p, y = read_cells(view, slots.classes[k])
        if shared is None:
            centre = make_centring(spread(p, y, view.cell_weights), prior)
        else:
            centre = Centring(*(c[k] for c in shared))
        sums = moments(centred(p, y, centre), view.sweep)
        return centre, sums, (p, y) if keep else None

    centre, sums, cells = each_slot(maps, slots.visits, visit)
    centre = centre if shared is None else shared
    mean, second, scatter = scatter_of(sums, view)
    truth = gaussian.truth_scatter(scatter, centre.slope)
    # A truth that varies over the image may be constant over the region positions. Its scatter is
    # nothing but rounding then.
    rounding = gaussian.ROUNDING * jnp.finfo(truth.dtype).eps * _size(second, centre.slope)
    constant = jnp.trace(truth, axis1=-2, axis2=-1) <= rounding  # false for a NaN
    slots = slots._replace(varies=slots.varies & ~constant)
    identity = matrices.identity_from(scatter)
    itself = matrices.congruent(gaussian.of_itself(identity, centre.slope), truth)
    sums = Sums(matrices.zeros_from(mean), scatter, itself)
    last = factored(view, slots, centre, mean, prior, sums, slots.varies)
    information = gaussian.information(last.whitening)
    unanchored = None
    if report:
        plain = prior._replace(anchor=jnp.zeros_like(prior.anchor))
        asked = slots.varies & (prior.anchor > 0)
        found = factored(view, slots, centre, mean, plain, sums, asked)
        unanchored = jnp.where(asked, gaussian.information(found.whitening), information)
    chol_y = matrices.cholesky(gaussian.with_jitter(truth, prior.jitter), prior.jitter)
    terms = Terms(
        information,
        gaussian.entropy(chol_y, prior.jitter),
        unanchored,
        gaussian.explanatory_slope(scatter, centre.slope, prior.jitter),
    )
    terms = jax.tree.map(lambda term: by_class(jnp.where(slots.varies, term, 0), slots), terms)

    # The lower half of `whitening.change`, which the loop of passes need not carry.
    lower = jnp.split(last.whitening.inverse, 2, axis=-2)[1]
    residual = matrices.matmul(lower, last.change)
    mean_residual = matrices.matmul(lower, last.sums.mean_z[..., None])[..., 0]
    found = Fit(centre, mean, residual, mean_residual, chol_y, cells)
    return terms, (slots, found)


def _size(second: jax.Array, slope: jax.Array) -> jax.Array:
    """Sums the squares of both terms of ``Y = s P + D``, from second moments of ``[P; D]``."""
    p, d = jnp.split(matrices.diagonal(second), 2, axis=-1)
    return jnp.sum(jnp.square(slope)[..., None] * p + d, axis=-1)

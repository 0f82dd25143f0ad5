"""The forward half of the engine: region statistics of every slot, and their joint factor.

A first pass over the maps sums the scatter of ``[P; D]``. Where factoring it cancels too many
digits, further passes sum it again in the basis that the last factor makes nearly white
(docs/theory, F1b).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax import gaussian, matrices
from rmi_jax.activations import LogTotal
from rmi_jax.centring import Centring, centred, combined, make_centring, spread
from rmi_jax.gaussian import Prior, Terms, Whitening
from rmi_jax.geometry import Maps, Scale
from rmi_jax.halo import summed
from rmi_jax.loops import each_slot
from rmi_jax.planes import View, make_view, read_cells
from rmi_jax.region_gradients import Change
from rmi_jax.region_sums import Moments, moments, moments_of
from rmi_jax.slots import Slots, by_class, make_slots

# A further pass is run where the variance inflation factor of a row is larger than this. Errors
# grow with that factor: about 1e-7 times it, in nats or, of the gradient, relative to its bound.
_INFLATION = 100.0
_MOST_PASSES = 8  # two are nearly always enough, and five were the most that any test needed
_ROUNDING = 32  # largest error assumed of a sum over positions, in units of its last place


class Fit(NamedTuple):
    """The regression of truth on prediction, ``[C, B, ...]``; all that the backward pass needs."""

    centring: Centring
    change: Change  # C: what the last pass measures is z = C ([P; D] - mean)
    mean: jax.Array  # [C, B, 2d] mean of the columns [P; D]
    mean_z: jax.Array  # [C, B, 2d] mean of C ([P; D] - mean): not 0, because of rounding
    residual: jax.Array  # [C, B, d, 2d] takes z to L22^-1 (Y - W P), with L22 of M + alpha I
    chol_y: jax.Array  # [C, B, d, d] of Y Y' + alpha I
    cells: tuple[jax.Array, jax.Array] | None  # [C, B, *cells] of p and y, where they are kept


class Pass(NamedTuple):
    """What the last pass of each slot found."""

    passes: jax.Array  # so far
    again: jax.Array  # [C, B] whether a further one is asked for
    change: jax.Array  # [C, B, 2d, 2d] C
    mean_z: jax.Array  # [C, B, 2d]
    whitening: Whitening


def fit(
    scale: Scale, maps: Maps, log_total: LogTotal | None, prior: Prior, keep: bool
) -> tuple[Terms, tuple[Slots, Fit]]:
    """Terms ``[B, C]`` of one scale, and what its gradient needs.

    Args:
      scale: how the maps are read.
      maps: the arrays.
      log_total: of the logits, for softmax.
      prior: jitter and anchor.
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
    mean, second, scatter = _scatter(sums, view)
    truth = gaussian.truth_scatter(scatter, centre.slope)
    # A truth that varies over the image may be constant over the region positions. Its scatter is
    # nothing but rounding then.
    rounding = _ROUNDING * jnp.finfo(truth.dtype).eps * _size(second, centre.slope)
    constant = jnp.trace(truth, axis1=-2, axis2=-1) <= rounding  # false for a NaN
    slots = slots._replace(varies=slots.varies & ~constant)
    identity = matrices.identity_from(scatter)
    itself = matrices.congruent(gaussian.of_itself(identity, centre.slope), truth)

    def joint(prior, asked):
        first = gaussian.whiten(scatter, itself, identity, centre.slope, prior)
        again = asked & (first.inflation > _INFLATION)
        start = Pass(jnp.int32(1), again, identity, matrices.zeros_from(mean), first)
        return _further_passes(view, slots, centre, mean, prior, start)

    last = joint(prior, slots.varies)
    information = gaussian.information(last.whitening)
    # For the report only, and computed apart, so that XLA removes it where nothing is reported.
    plain = prior._replace(anchor=jnp.zeros_like(prior.anchor))
    unanchored = joint(plain, slots.varies & (prior.anchor > 0))
    unanchored = gaussian.information(unanchored.whitening)
    chol_y = matrices.cholesky(gaussian.with_jitter(truth, prior.jitter), prior.jitter)
    terms = Terms(
        information,
        gaussian.entropy(chol_y, prior.jitter),
        jnp.where(prior.anchor > 0, unanchored, information),
        gaussian.explanatory_slope(scatter, centre.slope, prior.jitter),
    )
    terms = Terms(*(by_class(jnp.where(slots.varies, term, 0), slots) for term in terms))

    wanted = jnp.any(last.change != identity, axis=(1, 2, 3))
    found = Fit(
        centre,
        Change(last.change, wanted),
        mean,
        last.mean_z,
        jnp.split(last.whitening.inverse, 2, axis=-2)[1],
        chol_y,
        cells,
    )
    return terms, (slots, found)


def _further_passes(
    view: View, slots: Slots, centre: Centring, mean: jax.Array, prior: Prior, first: Pass
) -> Pass:
    """Repeats the pass for slots that ask for it, in the basis that their last factor whitens."""

    def unfinished(last):
        return jnp.any(last.again) & (last.passes < _MOST_PASSES)

    def repeat(last):
        asked = jnp.any(last.again, axis=1)
        order = jnp.argsort(~asked, stable=True)
        change = _where(last.again, last.whitening.change, last.change)
        mirrored = gaussian.of_truth(gaussian.of_itself(change, centre.slope), centre.slope)

        def visit(k):
            p, y = read_cells(view, slots.classes[k])
            maps = centred(p, y, Centring(*(c[k] for c in centre)))
            return moments_of(maps, view.sweep, mean[k], change[k], mirrored[k])

        sums, of_truth = each_slot(view.maps, jnp.sum(asked), visit, order)
        # Devices that share an image have the same sums, so they run the same number of passes.
        mean_z, _, scatter = _scatter(sums, view)
        *_, itself = _scatter(of_truth, view)
        found = gaussian.whiten(scatter, itself, change, centre.slope, prior)
        again = last.again & (found.inflation > _INFLATION)
        kept = jax.tree.map(
            lambda new, old: _where(last.again, new, old),
            (mean_z, found),
            (last.mean_z, last.whitening),
        )
        return Pass(last.passes + 1, again, change, *kept)

    return lax.while_loop(unfinished, repeat, first)


def _scatter(sums: Moments, view: View) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean columns ``[C, B, 2d]``, second moments ``[C, B, 2d, 2d]``, and those about the mean."""
    weights, regions = view.sweep.weights, view.scale.regions
    total = jnp.sum(weights, axis=tuple(range(1, weights.ndim)))[:, None]
    total, sums = summed((total, sums), view.scale.halo)
    mean = sums.first / jnp.where(total > 0, total, 1)[None]
    scatter = sums.second - sums.first[..., :, None] * mean[..., None, :]
    return mean, regions.thinning * sums.second, regions.thinning * scatter


def _size(second: jax.Array, slope: jax.Array) -> jax.Array:
    """Sums the squares of both terms of ``Y = s P + D``, from second moments of ``[P; D]``."""
    p, d = jnp.split(matrices.diagonal(second), 2, axis=-1)
    return jnp.sum(jnp.square(slope)[..., None] * p + d, axis=-1)


def _where(condition: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(condition.reshape(*condition.shape, *[1] * (a.ndim - condition.ndim)), a, b)

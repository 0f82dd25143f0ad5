"""Passes over the maps that factor the joint matrix of every slot (docs/theory, F1b).

A first pass, which `fit` makes, sums the scatter of ``[P; D]``. Where factoring it cancels too many
digits, further passes sum it again in the basis that the last factor makes nearly white.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax import gaussian, matrices
from rmi_jax.centring import Centring, with_truth
from rmi_jax.gaussian import Prior, Whitening
from rmi_jax.halo import summed
from rmi_jax.loops import each_slot
from rmi_jax.planes import View, read_cells
from rmi_jax.region_sums import Moments, moments_of
from rmi_jax.slots import Slots

# A further pass is run where the variance inflation factor of a row is larger than this. Errors
# grow with that factor: about 1e-7 times it, in nats or, of the gradient, relative to its bound.
_INFLATION = 100.0
_MOST_PASSES = 8  # two are nearly always enough, and five were the most that any test has needed


class Sums(NamedTuple):
    """What a pass over the maps measures of ``z = C ([P; D] - mean)`` in each slot."""

    mean_z: jax.Array  # [C, B, 2d]
    scatter: jax.Array  # [C, B, 2d, 2d]
    itself: jax.Array  # the same where the truth predicts itself


class Progress(NamedTuple):
    """Where the passes stand: each factors the sums of the one before, and measures new ones."""

    passes: jax.Array  # so far
    again: jax.Array  # [C, B] whether another one is asked for
    change: jax.Array  # [C, B, 2d, 2d] C
    sums: Sums  # in this basis
    whitening: Whitening  # of the last sums that were factored


def factored(
    view: View,
    slots: Slots,
    centre: Centring,
    mean: jax.Array,
    prior: Prior,
    sums: Sums,
    asked: jax.Array,
) -> Progress:
    """Factors the sums of the slots that are asked for, in as many passes as each of them needs."""

    def unfinished(last):
        return jnp.any(last.again)

    def step(last):
        found = gaussian.whiten(
            last.sums.scatter, last.sums.itself, last.change, centre.slope, prior
        )
        passes = last.passes + 1
        # Devices that share an image have the same sums, so they run the same number of passes.
        again = last.again & (found.inflation > _INFLATION) & (passes < _MOST_PASSES)
        change = _where(again, found.change, last.change)
        measured = _measure_again(view, slots, centre, mean, change, again)
        return Progress(
            passes,
            again,
            change,
            _where(again, measured, last.sums),
            _where(last.again, found, last.whitening),
        )

    identity = matrices.identity_from(sums.scatter)
    start = Progress(jnp.int32(0), asked, identity, sums, _white(identity))
    return lax.while_loop(unfinished, step, start)


def _white(identity: jax.Array) -> Whitening:
    """That of white columns, for slots that are not asked for: nothing is divided by zero."""
    ones = matrices.diagonal(identity)
    return Whitening(identity, ones, identity, identity, ones[..., 0])


def _measure_again(
    view: View,
    slots: Slots,
    centre: Centring,
    mean: jax.Array,
    change: jax.Array,
    again: jax.Array,
) -> Sums:
    """The sums of some slots, in the basis that their last factor made white."""
    # The truth is a third map. Computed as ``s P + D`` it would lose digits, and an anchor would
    # magnify what rounding leaves of a truth that is constant.
    nothing = jnp.zeros_like(change)
    of_errors = jnp.concatenate([change, nothing[..., : mean.shape[-1] // 2]], axis=-1)
    of_truth = jnp.concatenate([nothing, gaussian.of_itself(change, centre.slope)], axis=-1)
    mean_p, mean_d = jnp.split(mean, 2, axis=-1)
    mean = jnp.concatenate([mean, centre.slope[..., None] * mean_p + mean_d], axis=-1)

    def visit(k):
        p, y = read_cells(view, slots.classes[k])
        maps = with_truth(p, y, Centring(*(c[k] for c in centre)))
        return moments_of(maps, view.sweep, mean[k], of_errors[k], of_truth[k])

    asked = jnp.any(again, axis=1)
    order = jnp.argsort(~asked, stable=True)
    errors, truth = each_slot(view.maps, jnp.sum(asked), visit, order)
    mean_z, _, scatter = scatter_of(errors, view)
    *_, itself = scatter_of(truth, view)
    return Sums(mean_z, scatter, itself)


def scatter_of(sums: Moments, view: View) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean columns ``[C, B, 2d]``, second moments ``[C, B, 2d, 2d]``, and those about the mean."""
    weights, regions = view.sweep.weights, view.scale.regions
    total = jnp.sum(weights, axis=tuple(range(1, weights.ndim)))[:, None]
    total, sums = summed((total, sums), view.scale.halo)
    mean = sums.first / jnp.where(total > 0, total, 1)[None]
    scatter = sums.second - sums.first[..., :, None] * mean[..., None, :]
    return mean, regions.thinning * sums.second, regions.thinning * scatter


def _where(condition: jax.Array, new: Any, old: Any) -> Any:
    """Chooses among ``[C, B, ...]`` arrays, or tuples of them, by ``[C, B]``."""

    def choose(a, b):
        return jnp.where(
            condition.reshape(*condition.shape, *[1] * (a.ndim - condition.ndim)), a, b
        )

    return jax.tree.map(choose, new, old)

"""Which classes of each image are visited: those whose label map varies.

Where a label map is constant over the cells used, the loss is a constant and its gradient exactly
zero whatever the prediction (docs/theory, F3). Slot k of an image is its k-th class whose label map
varies. All images of a batch are visited together, slot by slot, so that the batch stays an
ordinary array axis. The loop ends at the largest number of slots that any image has.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rmi_jax.geometry import Maps, Scale
from rmi_jax.halo import largest, summed
from rmi_jax.labels import class_sums


class Slots(NamedTuple):
    """Classes in the order in which they are visited."""

    classes: jax.Array  # [C, B], the varying classes of each image first
    varies: jax.Array  # [C, B] whether slot k of image b is such a class
    visits: jax.Array  # number of slots to visit


def make_slots(maps: Maps, scale: Scale) -> Slots:
    """Finds the varying classes. It may find one too many, which costs time and nothing else."""
    used = None if maps.pixel_weights is None else maps.pixel_weights > 0
    if maps.targets.ndim < maps.inputs.ndim:
        varies = _labels_vary(maps.targets, used, maps.inputs.shape[-1], scale)
    else:
        varies = _targets_vary(maps.targets, used, scale)
    varies &= maps.active
    classes = jnp.argsort(~varies, axis=1, stable=True).astype(jnp.int32).T
    count = jnp.max(jnp.sum(varies, axis=1, dtype=jnp.int32))
    return Slots(classes, jnp.take_along_axis(varies.T, classes, axis=0), count)


def by_class(values: jax.Array, slots: Slots) -> jax.Array:
    """Reorders ``[C, B, ...]`` values of slots to ``[B, ..., C]``."""
    order = jnp.argsort(slots.classes, axis=0)
    order = order.reshape(*order.shape, *[1] * (values.ndim - 2))
    return jnp.moveaxis(jnp.take_along_axis(values, order, axis=0), 0, -1)


def _labels_vary(labels, used, classes, scale):
    used = jnp.ones(labels.shape, bool) if used is None else used
    # Borrowed rows are counted twice, which does not change whether a class varies.
    counts = summed(class_sums(used.astype(jnp.int32), labels, classes), scale.halo)
    # Here padding and ignored pixels are zeros, so that only an absent class is constant.
    if scale.ignored == "zero":
        return counts > 0
    return (counts > 0) & (counts < jnp.sum(counts, axis=1, keepdims=True, dtype=counts.dtype))


def _targets_vary(targets, used, scale):
    axes = tuple(range(1, targets.ndim - 1))
    low = high = targets
    if used is not None:
        low = jnp.where(used[..., None], targets, jnp.inf)
        high = jnp.where(used[..., None], targets, -jnp.inf)
    low, high = jnp.min(low, axis=axes), jnp.max(high, axis=axes)
    low, high = -largest(-low, scale.halo), largest(high, scale.halo)
    # Not ``high > ...``, so that a NaN counts as varying.
    return ~(high <= (0 if scale.ignored == "zero" else low))

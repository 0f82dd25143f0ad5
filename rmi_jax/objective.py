"""The objective: cross entropy and RMI term, weighted and summed over the classes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rmi_jax import checks, mesh, ranges
from rmi_jax.cross_entropy import cross_entropy
from rmi_jax.dtypes import Array, compute_dtype
from rmi_jax.gaussian import Terms
from rmi_jax.options import region_options
from rmi_jax.terms import has_entropy, mutual_information, region_loss, region_terms


class LossParts(NamedTuple):
    """What a training loop logs beside the loss: means over the images, ``[C]`` each."""

    cross_entropy: jax.Array  # nats, before weights
    rmi: jax.Array  # the RMI term in nats per region dimension, before weights
    mutual_information: jax.Array  # normalized to [0, 1), over the images where the class varies
    slope: jax.Array  # s over the same images: near 1 is well scaled, below 0 is inverted
    images: jax.Array  # number of images where the class varies


def objective(
    logits: jax.Array,
    targets: jax.Array,
    pixel_weights: jax.Array | None,
    *,
    activation: str,
    bce_weight: ArrayLike,
    rmi_weight: ArrayLike | None,
    class_weights: Sequence[float] | Array | None,
    zero_floor: bool,
    reduction: str,
    has_aux: bool,
    axis_name: str | tuple[str, ...] | None,
    **region: Any,
) -> Any:
    """What `rmi_loss` returns, which explains the options. Those of the RMI term are ``region``.

    ``logits``, ``targets`` (labels ``[B, *S]`` or maps ``[B, *S, C]``) and ``pixel_weights`` (0
    where ignored, None if all are 1) have been checked; the options are checked here.
    """
    dtype = compute_dtype(logits.dtype)
    checks.one_of("activation", activation, ("sigmoid", "softmax"))
    options = region_options(logits.shape, dtype, activation=activation, **region)
    checks.boolean("zero_floor", zero_floor)
    checks.boolean("has_aux", has_aux)
    checks.one_of("reduction", reduction, ("mean", "none"))
    mesh.mapped_axes("axis_name", axis_name)
    given = _part_weights(bce_weight, rmi_weight)
    # A part whose weight is the number 0 is left out of the program, unless both are.
    with_cross_entropy = has_aux or not _is_zero(given[0])
    with_rmi = has_aux or not _is_zero(given[1]) or not with_cross_entropy
    if class_weights is not None:
        ranges.vector("class_weights", class_weights, logits.shape[-1], "one per class")
    bce_weight, rmi_weight = (jnp.asarray(weight, dtype) for weight in given)
    class_weights = jnp.asarray(1 if class_weights is None else class_weights, dtype)

    terms = None
    entropy = rmi = jnp.zeros((), dtype)
    if with_cross_entropy:
        axis_names = axis_name, options.spatial_axis_name
        entropy = cross_entropy(logits, targets, pixel_weights, activation, *axis_names)
        chex.assert_shape(entropy, (logits.shape[0], logits.shape[-1]))
    if with_rmi:
        active = has_aux or rmi_weight != 0
        terms = region_terms(logits, targets, pixel_weights, options, active, report=has_aux)
        rmi = region_loss(terms, options, zero_floor=zero_floor)

    class_weights = class_weights.reshape(1, -1)
    per_image = jnp.sum(class_weights * (bce_weight * entropy + rmi_weight * rmi), axis=-1)
    loss = per_image if reduction == "none" else jnp.mean(per_image)
    if terms is None or not has_aux:
        return loss
    parts = _loss_parts(entropy, rmi, terms, options.scale_weights)
    return loss, jax.lax.stop_gradient(parts)


def _loss_parts(
    entropy: jax.Array, rmi: jax.Array, terms: Terms, scale_weights: jax.Array
) -> LossParts:
    assert terms.unanchored is not None  # as the terms were asked for with a report
    varies = has_entropy(terms, scale_weights)
    images = jnp.sum(varies, axis=0)

    def over_images(values):
        added = jnp.sum(jnp.where(varies, values, 0), axis=0)
        return added / jnp.maximum(images, 1).astype(rmi.dtype)

    total = jnp.sum(scale_weights)
    return LossParts(
        jnp.mean(entropy, axis=0),
        jnp.mean(rmi, axis=0),
        over_images(mutual_information(terms.unanchored, terms.entropy, varies, normalize=True)),
        over_images(terms.slope / jnp.where(total > 0, total, 1)),
        images,
    )


def _part_weights(bce_weight: Any, rmi_weight: Any) -> tuple[Any, Any]:
    """Checked weights of the two parts, which may be traced."""
    if rmi_weight is None:
        ranges.scalar("bce_weight", bce_weight, most=1, remedy="or pass rmi_weight as well")
        return bce_weight, 1 - bce_weight
    ranges.scalar("bce_weight", bce_weight)
    ranges.scalar("rmi_weight", rmi_weight)
    return bce_weight, rmi_weight


def _is_zero(weight: ArrayLike) -> bool:
    """Whether a weight is known to be 0; a traced one only skips the work when it runs."""
    return isinstance(weight, int | float) and weight == 0

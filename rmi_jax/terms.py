"""The RMI term: an implementation computes it for each scale, and here they become one result."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from rmi_jax import halo, patches, streaming
from rmi_jax.gaussian import Prior, Terms
from rmi_jax.geometry import Maps, Scale
from rmi_jax.options import RegionOptions

_UNRESOLVED = 1000  # entropies of less, in units of the last place of 1, are taken for 0

_IMPLEMENTATIONS: dict[str, Callable[[Maps, Prior, tuple[Scale, ...], bool], list[Terms]]] = {
    "streaming": streaming.terms_of_scales,
    "patches": patches.terms_of_scales,
}


def region_terms(
    inputs: jax.Array,
    targets: jax.Array,
    pixel_weights: jax.Array | None,
    options: RegionOptions,
    active: bool | jax.Array = True,
    *,
    report: bool = False,
) -> Terms:
    """Terms ``[B, C]``, added up over the scales by their weights.

    If not ``active``, the caller weights them by 0, and an implementation may skip the work. With
    a ``report`` they have the information without an anchor as well.
    """
    maps = Maps(inputs, targets, pixel_weights, options.offset, jnp.asarray(active))
    maps = halo.exchange(maps, options.scales[0].halo)
    terms_of_scales = _IMPLEMENTATIONS[options.implementation]
    per_scale = terms_of_scales(maps, options.prior, options.scales, report)
    chex.assert_shape(jax.tree.leaves(per_scale), (inputs.shape[0], inputs.shape[-1]))
    chex.assert_type(jax.tree.leaves(per_scale), options.prior.jitter.dtype)  # not of the logits
    return jax.tree.map(
        lambda *terms: sum(w * t for w, t in zip(options.scale_weights, terms, strict=True)),
        *per_scale,
    )


def region_loss(terms: Terms, options: RegionOptions, *, zero_floor: bool) -> jax.Array:
    """The loss term ``[B, C]``, with its smallest value subtracted if ``zero_floor``."""
    if zero_floor:
        return terms.information
    # The smallest value is log(alpha) / 2 nats (docs/theory, F4).
    floor = 0.5 * jnp.log(options.prior.jitter) * jnp.sum(options.scale_weights)
    return terms.information + floor


def has_entropy(terms: Terms, scale_weights: jax.Array) -> jax.Array:
    """Whether there is more to explain than rounding, which a share of it would show as noise.

    True for a NaN, which is to be seen.
    """
    entropy = terms.entropy
    rounding = jnp.finfo(entropy.dtype).eps * jnp.sum(scale_weights)
    return ~(entropy <= _UNRESOLVED * rounding)


def mutual_information(
    information: jax.Array, entropy: jax.Array, varies: jax.Array, *, normalize: bool
) -> jax.Array:
    """What the prediction explains of the truth's entropy, in nats or as a share of it.

    0 where the truth does not vary (`has_entropy`).
    """
    explained = jnp.where(varies, jnp.maximum(entropy - information, 0), 0)
    return explained / jnp.where(varies, entropy, 1) if normalize else explained

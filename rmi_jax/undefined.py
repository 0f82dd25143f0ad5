"""Ratios that are undefined, such as the IoU of an absent class, are NaN."""

import math

import jax
import jax.numpy as jnp


def where_defined(known: jax.Array, value: jax.Array, otherwise: float = math.nan) -> jax.Array:
    """``value`` where ``known``. ``jax_debug_nans`` does not stop at a NaN that is chosen here."""
    with jax.debug_nans(False):
        return jnp.where(known, value, otherwise)


def ratio(part: jax.Array, whole: jax.Array, otherwise: float = math.nan) -> jax.Array:
    """``part / whole``, of counts."""
    # Not jnp.maximum(whole, 1), for counts that were divided by their sum are below 1.
    return where_defined(whole > 0, part / jnp.where(whole > 0, whole, 1), otherwise)

"""NaN for what has no value, by definition and not by computation."""

import math

import jax
import jax.numpy as jnp


def where_defined(known: jax.Array, value: jax.Array, otherwise: float = math.nan) -> jax.Array:
    """``value`` where ``known``; a NaN that is chosen here is meant, and no mistake to stop at."""
    with jax.debug_nans(False):
        return jnp.where(known, value, otherwise)

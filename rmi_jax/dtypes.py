"""Which types are computed with. Chosen by name: strict promotion refuses to derive them."""

import jax.numpy as jnp


def compute_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Statistics are float64 for float64 input and float32 for everything else."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)

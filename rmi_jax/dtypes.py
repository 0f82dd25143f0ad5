"""Which types are accepted, and which are computed with."""

import jax
import jax.numpy as jnp
import numpy as np

# What arguments are: NumPy arrays are welcome, and copied to the device. Numbers and weights that a
# schedule may give are `jax.typing.ArrayLike`, which is what Optax says of its schedules.
Array = jax.Array | np.ndarray


def compute_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """float64 for float64 input, float32 for everything else.

    Named here, because under JAX's strict promotion no type may follow from mixing others.
    """
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def is_floating(dtype) -> bool:
    """Whether it is a float of 16, 32 or 64 bits: no long double, and no float of 8 bits."""
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize in (2, 4, 8)


def is_integer(dtype) -> bool:
    """Whether it is an integer of at least 8 bits."""
    return np.issubdtype(dtype, np.integer)


def is_real(dtype) -> bool:
    """Whether it is one of these integers or floats."""
    return is_floating(dtype) or is_integer(dtype)

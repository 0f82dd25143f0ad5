"""Class indices, from integers of any width."""

import jax
import jax.numpy as jnp
import numpy as np


def narrow(maps: jax.Array | np.ndarray, num_classes: int) -> jax.Array:
    """Integers of 16 or 32 bits; a 64-bit class that does not fit stays outside the classes."""
    if maps.dtype.itemsize == 8:
        # On the host where it is: on its way to JAX it would wrap around to another class.
        lowest = 0 if maps.dtype.kind == "u" else -1
        clip = np.clip if isinstance(maps, np.ndarray) else jnp.clip
        return jnp.asarray(clip(maps, lowest, num_classes), jnp.int32)
    # An 8-bit label cannot be compared with a class count above its range.
    return jnp.asarray(maps, jnp.promote_types(maps.dtype, jnp.int16))

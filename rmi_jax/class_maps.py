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
    fits = np.can_cast(maps.dtype, np.int16) and num_classes <= np.iinfo(np.int16).max
    return jnp.asarray(maps, jnp.int16 if fits else jnp.int32)


def is_class(labels: jax.Array, classes: jax.Array) -> jax.Array:
    """``labels == classes`` for integers of any width and arrays of the same number of axes."""
    return labels.astype(jnp.int32) == classes.astype(jnp.int32)


def one_hot(labels: jax.Array, num_classes: int) -> jax.Array:
    """Boolean ``[..., C]``: whether the label is that class."""
    shape = (1,) * labels.ndim + (num_classes,)
    return is_class(labels[..., None], jnp.arange(num_classes).reshape(shape))

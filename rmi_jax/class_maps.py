"""Class indices, from integers of any width."""

import jax
import jax.numpy as jnp
import numpy as np

from rmi_jax import array_checks, checks


def narrow(maps: jax.Array | np.ndarray, num_classes: int) -> jax.Array:
    """Integers of 16 or 32 bits; a 64-bit class that does not fit stays outside the classes."""
    if maps.dtype.itemsize == 8:
        # On the host where it is: on its way to JAX it would wrap around to another class.
        lowest = 0 if maps.dtype.kind == "u" else -1
        clip = np.clip if isinstance(maps, np.ndarray) else jnp.clip
        return jnp.asarray(clip(maps, lowest, num_classes), jnp.int32)
    # An 8-bit label cannot be compared with a class count above its range.
    return jnp.asarray(maps, jnp.promote_types(maps.dtype, jnp.int16))


def pair(
    predictions: jax.Array, labels: jax.Array, num_classes: int, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Checks the arguments that all counts share; both maps as int32, and the valid pixels."""
    for name, value in (("predictions", predictions), ("labels", labels)):
        array_checks.integers(name, value, "for scores take jnp.argmax over the class axis")
    array_checks.shape("predictions", predictions, labels.shape, "the shape of labels")
    if labels.ndim < 2 or 0 in labels.shape:
        raise ValueError(
            f"labels must have shape [batch, *spatial] without an empty axis, got {labels.shape}"
        )
    num_classes = checks.positive_int("num_classes", num_classes)
    predictions, labels = (
        narrow(maps, num_classes).astype(jnp.int32) for maps in (predictions, labels)
    )
    valid = (labels >= 0) & (labels < num_classes)
    if where is None:
        return predictions, labels, valid
    array_checks.mask("where", where, labels.shape)
    return predictions, labels, valid & where

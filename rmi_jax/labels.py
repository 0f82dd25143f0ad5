"""Integer labels of any width: as class indices, as one-hot arrays, and summed over by class."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rmi_jax import checks, concrete
from rmi_jax.dtypes import Array, is_integer


def check_labels(
    name: str,
    value,
    expected: Sequence[int],
    meaning: str,
    *,
    for_probabilities: str,
    remedy: str = "",
) -> None:
    """Raises unless ``value`` holds integers and has the expected shape ``[B, *S]``.

    Maps of probabilities need another function, which ``for_probabilities`` names; class indices
    that were cast to another type need to be cast back. ``remedy`` is for another shape.
    """
    checks.array(name, value)
    if not is_integer(value.dtype):
        fits = tuple(value.shape) in (tuple(expected), (*expected, 1))
        cast = fits and _is_whole(value)
        use = f"use {name}.astype(jnp.int32)" if cast else for_probabilities
        raise TypeError(f"{name} must be integers, got {value.dtype}; {use}")
    checks.shape(name, value, expected, meaning, remedy)


def narrow(maps: Array, num_classes: int) -> jax.Array:
    """Labels as int16 or int32; 64-bit labels are clipped, so that what is no class stays none."""
    if maps.dtype.itemsize == 8:
        # By NumPy where it can be: JAX converts to 32 bits first, which may wrap around to a class.
        lowest = 0 if maps.dtype.kind == "u" else -1
        clip = np.clip if isinstance(maps, np.ndarray) else jnp.clip
        return jnp.asarray(clip(maps, lowest, num_classes), jnp.int32)
    # At least 16 bits, because 8 cannot hold every number of classes that it is compared with.
    fits = np.can_cast(maps.dtype, np.int16) and num_classes <= np.iinfo(np.int16).max
    return jnp.asarray(maps, jnp.int16 if fits else jnp.int32)


def is_class(labels: jax.Array, classes: jax.Array) -> jax.Array:
    """``labels == classes`` for integers of any width and arrays of the same number of axes."""
    return labels.astype(jnp.int32) == classes.astype(jnp.int32)


def one_hot(labels: jax.Array, num_classes: int) -> jax.Array:
    """Boolean ``[..., C]``: whether the label is that class."""
    shape = (1,) * labels.ndim + (num_classes,)
    return is_class(labels[..., None], jnp.arange(num_classes).reshape(shape))


def class_sums(values: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """Sums ``values`` ``[B, *S]`` by label, ``[B, classes]``; labels out of range are left out."""

    def scatter(values, labels):
        labels = jnp.where(labels < 0, classes, labels)
        return jax.vmap(lambda v, y: jnp.zeros(classes, v.dtype).at[y].add(v, mode="drop"))(
            values, labels
        )

    def compare(values, labels):
        is_label = one_hot(labels, classes)
        axes = tuple(range(1, labels.ndim))
        masked = jnp.where(is_label, values[..., None], 0)
        return jnp.sum(masked, axis=axes, dtype=values.dtype)

    # A scatter suits a CPU. The many threads of an accelerator would wait for each other at the
    # few sums that they add to.
    return lax.platform_dependent(values, labels, cpu=scatter, default=compare)


def _is_whole(value: Array) -> bool:
    """Whether no entry is known to have a fraction."""
    known = concrete.values(value) if jnp.issubdtype(value.dtype, jnp.floating) else None
    return known is None or bool((np.floor(known) == known).all())

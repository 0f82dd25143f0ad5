"""The values of arguments, read on the host where they are known before the program runs.

Checks read values through these functions only. Under ``jit`` even ``(value < 0).any()`` of a
constant is traced, and has no answer yet; NumPy, given the constant itself, answers at once.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def values(value: Any) -> np.ndarray | None:
    """The values of an array, as NumPy; None where they are unknown or out of reach."""
    if isinstance(value, Tracer):
        return None
    if isinstance(value, jax.Array):
        if not (value.is_fully_addressable or value.is_fully_replicated):
            return None  # other hosts hold some of it
        try:
            value = np.asarray(value)
        except RuntimeError:  # donated, or a transfer guard is set
            return None
    # In 16 bits, NumPy warns at the minimum of NaNs, and the largest float32 is infinite.
    is_short = jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize < 4
    return np.asarray(value, np.float32 if is_short else None)


def scalar(value: Any) -> float | None:
    """The value of a Python number or of an array without axes; None where it is unknown."""
    if not isinstance(value, jax.Array):
        return float(value)
    known = values(value)
    return None if known is None else float(known)

"""Errors about what numbers and arrays hold, where that is known before tracing (`concrete`).

Numbers and weights are checked here altogether, as `checks` does with options and maps.
"""

import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rmi_jax import checks, concrete
from rmi_jax.dtypes import Array, is_real

LARGEST = float(np.finfo(np.float32).max)  # larger weights and counts are infinite in float32


def scalar(
    name: str, value, *, least: float = 0, most: float = LARGEST, remedy: str | None = None
) -> None:
    """Raises unless ``value`` is a real scalar in ``[least, most]`` where it is concrete."""
    if isinstance(value, Array | np.generic):
        if value.shape != () or not is_real(value.dtype):
            raise ValueError(
                f"{name} must be a real scalar, got {value.dtype} of shape {value.shape}"
            )
    elif isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {checks.described(value)}")
    number = concrete.scalar(value)
    if number is not None and not least <= number <= most:
        bound = f"at least {least}" if least else "not negative"
        if most < number <= LARGEST:
            more = "" if remedy is None else f"; {remedy}"
            raise ValueError(f"{name} must be at most {most:g}, got {number}{more}")
        raise ValueError(f"{name} must be finite and {bound} in float32, got {number}")


def static_scalar(name: str, value, *, least: float) -> float:
    """A static real number of at least ``least``; raises TypeError or ValueError otherwise."""
    checks.static(name, value, "number")
    scalar(name, value)
    if float(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {float(value)}")
    return float(value)


def vector(name: str, value, length: int, meaning: str) -> None:
    """Raises unless ``value`` is ``length`` real weights, finite and >= 0 where concrete."""
    kinds = Sequence | Array | numbers.Real
    if isinstance(value, str) or not isinstance(value, kinds):
        raise TypeError(f"{name} must be an array of real weights, got {checks.described(value)}")
    checks.unmasked(name, value)
    if isinstance(value, Sequence) and any(isinstance(entry, Tracer) for entry in value):
        value = jnp.stack([jnp.asarray(entry) for entry in value])
    weights = value if isinstance(value, jax.Array) else np.asarray(value)
    if not is_real(weights.dtype):
        raise TypeError(f"{name} must be real weights, got {weights.dtype}")
    checks.shape(name, weights, (length,), meaning)
    nonnegative(name, weights)


def unit_interval(name: str, value) -> None:
    """Raises ValueError if a concrete ``value`` has an entry outside [0, 1] (NaN passes)."""
    known = concrete.values(value)
    if known is not None and ((known < 0) | (known > 1)).any():
        raise ValueError(
            f"{name} must lie in [0, 1], got values from {float(known.min())} to "
            f"{float(known.max())}; apply a sigmoid or softmax to logits, divide counts"
        )


def nonnegative(name: str, value) -> None:
    """Raises ValueError if a concrete ``value`` has a negative, infinite or NaN entry."""
    known = concrete.values(value)
    if known is not None and not ((known >= 0) & (known <= LARGEST)).all():
        raise ValueError(
            f"{name} must be finite and not negative, got values from {float(known.min())} to "
            f"{float(known.max())}"
        )


def counts(name: str, value: Array, source: str) -> None:
    """Raises unless ``value`` is an array of real numbers, not negative where concrete."""
    checks.array(name, value)
    if not is_real(value.dtype):
        raise TypeError(
            f"{name} must hold counts, got {value.dtype}; use what {source} returns, or sums of it"
        )
    nonnegative(name, value)

"""Errors about arrays, before tracing: each names the argument, what it got and what would work.

Values are looked at where there are any, all through `concrete`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# Counts and weights are computed with in float32: past this they would be infinite.
LARGEST = float(np.finfo(np.float32).max)
# Times the number of pixels. More, beside the smallest jitter, and the matrices lose all digits.
LARGEST_WEIGHT = 1e12


def concrete(value: Any) -> np.ndarray | None:
    """The values of an array, on the host; None where they are unknown, or not to be had.

    Under `jit`, even what is computed from constants alone is only known when the program runs: a
    question like ``(value < 0).any()`` has no answer there. NumPy answers it, everywhere.
    """
    if isinstance(value, Tracer):
        return None
    if isinstance(value, jax.Array):
        if not (value.is_fully_addressable or value.is_fully_replicated):
            return None  # other hosts have some of it
        try:
            value = np.asarray(value)
        except RuntimeError:  # donated, or a transfer guard is set
            return None
    # NumPy's minimum of NaNs in bfloat16 warns, and the largest float32 is none in 16 bits.
    narrow = jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize < 4
    return np.asarray(value, np.float32 if narrow else None)


def concrete_scalar(value: Any) -> float | None:
    """The value of a scalar, a Python number or an array without axes; None where unknown."""
    if not isinstance(value, jax.Array):
        return float(value)
    known = concrete(value)
    return None if known is None else float(known)


def array(name: str, value) -> None:
    """Raises TypeError unless ``value`` is an array, and one that JAX takes as it is."""
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(
            f"{name} must be a JAX or NumPy array, got {type(value).__name__}; "
            "convert it with jnp.asarray"
        )
    unmasked(name, value)
    if not value.dtype.isnative:
        # As files of other programs have it.
        raise TypeError(
            f"{name} must have this machine's byte order, got {value.dtype}; "
            f"use .astype({value.dtype.newbyteorder('=').name!r})"
        )


def floating(name: str, value) -> None:
    """Raises TypeError unless ``value`` is a floating-point array."""
    array(name, value)
    if not _is_floating(value.dtype):
        raise TypeError(
            f"{name} must be floating point of 16, 32 or 64 bits, got {value.dtype}; "
            "use .astype(jnp.float32)"
        )


def class_map(
    name: str, value, expected: Sequence[int], meaning: str, *, for_probabilities: str
) -> None:
    """Raises unless ``value`` is an integer array ``[B, *S]`` of the expected shape.

    Maps of probabilities need another function, which ``for_probabilities`` names; class indices
    that were cast to another type need to be cast back.
    """
    array(name, value)
    if not _is_integer(value.dtype):
        fits = tuple(value.shape) in (tuple(expected), (*expected, 1))
        cast = fits and _is_whole(value)
        remedy = f"use {name}.astype(jnp.int32)" if cast else for_probabilities
        raise TypeError(f"{name} must be integers, got {value.dtype}; {remedy}")
    shape(name, value, expected, meaning)


def spatial_ndim(name: str, value) -> int:
    """Number of spatial axes of ``[B, *S, C]`` maps; raises ValueError unless it is 1, 2 or 3."""
    if not 3 <= value.ndim <= 5:
        raise ValueError(
            f"{name} must have shape [batch, 1 to 3 spatial axes, classes], got {value.shape}"
        )
    if 0 in value.shape:
        raise ValueError(f"{name} must not have an empty axis, got shape {value.shape}")
    return value.ndim - 2


def shape(name: str, value, expected: Sequence[int], meaning: str) -> None:
    """Raises ValueError unless ``value`` has the expected shape."""
    got, expected = tuple(value.shape), tuple(expected)
    if got == expected:
        return
    remedy = ""
    if got == (*expected, 1):  # as many data sets and frameworks have it
        remedy = f"; use {name}[..., 0]"
    elif (*got, 1) == expected:
        remedy = f"; use {name}[..., None]"
    raise ValueError(f"{name} must have shape {expected} ({meaning}), got {got}{remedy}")


def mask(name: str, value, expected: Sequence[int]) -> None:
    """Raises unless ``value`` is a boolean mask of the expected shape."""
    array(name, value)
    if value.dtype != bool:
        raise TypeError(f"{name} must be boolean, got {value.dtype}; compare it, e.g. {name} > 0")
    shape(name, value, expected, "[batch, *spatial]")


def pixel_weights(name: str, value, expected: Sequence[int]) -> None:
    """Raises unless ``value`` is a mask or real weights of the expected shape, where known >= 0."""
    array(name, value)
    if not (value.dtype == bool or is_real(value.dtype)):
        raise TypeError(f"{name} must be a boolean mask or real weights, got {value.dtype}")
    shape(name, value, expected, "[batch, *spatial]")
    nonnegative(name, value)
    known = concrete(value)
    if known is not None and float(known.max()) * known.size > LARGEST_WEIGHT:
        raise ValueError(
            f"{name} must be at most {LARGEST_WEIGHT:g} / {known.size} pixels, got values up to "
            f"{float(known.max())}; divide it by its mean"
        )


def unit_interval(name: str, value) -> None:
    """Raises ValueError if a concrete ``value`` has an entry outside [0, 1] (NaN passes)."""
    known = concrete(value)
    if known is not None and ((known < 0) | (known > 1)).any():
        raise ValueError(
            f"{name} must lie in [0, 1], got values from {float(known.min())} to "
            f"{float(known.max())}; apply a sigmoid or softmax to logits, divide counts"
        )


def at_most_one(name: str, value, remedy: str) -> None:
    """Raises ValueError if a concrete scalar ``value`` exceeds 1."""
    number = concrete_scalar(value)
    if number is not None and number > 1:
        raise ValueError(f"{name} must be at most 1, got {number}; {remedy}")


def counts(name: str, value, remedy: str) -> None:
    """Raises unless ``value`` is an array of real numbers, finite and >= 0 where concrete."""
    array(name, value)
    if not is_real(value.dtype):
        raise TypeError(f"{name} must hold counts, got {value.dtype}; {remedy}")
    nonnegative(name, value)


def parts(name: str, value, remedy: str) -> None:
    """Raises ValueError if an even column of a concrete ``value`` exceeds the odd one after it."""
    known = concrete(value)
    if known is not None and (known[:, ::2] > known[:, 1::2]).any():
        raise ValueError(
            f"{name} must not have a part that exceeds its whole, got {known.tolist()}; {remedy}"
        )


def nonnegative(name: str, value) -> None:
    """Raises ValueError if a concrete ``value`` has a negative, infinite or NaN entry."""
    known = concrete(value)
    if known is not None and not ((known >= 0) & (known <= LARGEST)).all():
        raise ValueError(
            f"{name} must be finite and not negative, got values from {float(known.min())} to "
            f"{float(known.max())}"
        )


def unmasked(name: str, value) -> None:
    """Raises TypeError for a masked array of NumPy."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a JAX or NumPy array, got a masked array, whose mask would be lost; "
            f"pass {name}.data, and leave out pixels with where=~{name}.mask"
        )


def _is_whole(value) -> bool:
    """Whether no entry is known to have a fraction."""
    known = concrete(value) if jnp.issubdtype(value.dtype, jnp.floating) else None
    return known is None or bool((np.floor(known) == known).all())


def _is_floating(dtype) -> bool:
    # Neither NumPy's long double, which JAX does not know, nor floats of 8 bits and fewer.
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize in (2, 4, 8)


def _is_integer(dtype) -> bool:
    return np.issubdtype(dtype, np.integer)  # not those of 4 bits and fewer


def is_real(dtype) -> bool:
    """Whether numbers of this type are integers or floats that JAX computes with."""
    return _is_floating(dtype) or _is_integer(dtype)

"""Errors about arguments, before tracing: each names the argument, what it got, what would work.

A static option, such as a region size, raises when it is traced. Of an array, type and shape are
always known, and checked here; what it holds is not always known, and checked in `ranges`.
"""

import operator
from collections.abc import Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rmi_jax.dtypes import Array, is_floating

LARGEST_INT = np.iinfo(np.int32).max  # of JAX without 64-bit types


# --- Options that must be static


def one_of(name: str, value, choices: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``, TypeError if it is traced."""
    static(name, value, "string")
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def boolean(name: str, value) -> None:
    """Raises TypeError unless ``value`` is a Python bool."""
    static(name, value, "bool")
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {described(value)}")


def per_axis(name: str, value, ndim: int) -> tuple[int, ...]:
    """Expands an int to one per spatial axis; raises unless all are static and positive."""
    if is_sequence(value):
        if len(value) != ndim:
            raise ValueError(
                f"{name} must be an int or one int per spatial axis ({ndim} of them), got {value!r}"
            )
        return tuple(positive_int(name, entry) for entry in value)
    return (positive_int(name, value),) * ndim


def is_sequence(value) -> TypeGuard[Sequence[Any]]:
    """Whether ``value`` holds entries: an array without axes is one number."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)


def positive_int(name: str, value) -> int:
    """A static positive int; raises TypeError or ValueError otherwise."""
    return static_int(name, value, least=1)


def static_int(name: str, value, *, least: int) -> int:
    """A static int of at least ``least``; raises TypeError or ValueError otherwise."""
    static(name, value, "int")
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an int, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {described(value)}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if number > LARGEST_INT:
        raise ValueError(f"{name} must be at most {LARGEST_INT}, got {number}")
    return number


def class_axis(name: str, value, ndim: int) -> int:
    """A static axis index in ``[-ndim, ndim)``, other than the batch axis, made non-negative."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a static int, got {described(value)}")
    if not -ndim <= value < ndim or value % ndim == 0:
        raise ValueError(
            f"{name} must index an axis after the batch axis of {ndim}-D maps, got {value}"
        )
    return int(value) % ndim


def cells_left(spatial: Sequence[int], factors: Sequence[int], method: str) -> None:
    """Raises ValueError if downsampling would leave an axis without cells."""
    if method in ("avg", "max"):
        return  # padding leaves at least one
    if any(n < f for n, f in zip(spatial, factors, strict=True)):
        raise ValueError(
            f"factor {tuple(factors)} leaves no cell of a map of {tuple(spatial)}; "
            "use a smaller factor or a larger map"
        )


def regions_fit(span: Sequence[int], cells: Sequence[int], there_are: str, remedy: str) -> None:
    """Raises ValueError if a region is larger than the (downsampled) map."""
    if any(n <= s for n, s in zip(cells, span, strict=True)):
        raise ValueError(
            f"region_size and dilation span {tuple(s + 1 for s in span)} cells, but {there_are} "
            f"only {tuple(cells)}; use {remedy}"
        )


# --- Arrays, which may be traced


def key(name: str, value) -> None:
    """Raises TypeError unless ``value`` is one PRNG key."""
    typed = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    raw = isinstance(value, Array) and value.dtype == np.uint32
    if not (typed and value.shape == ()) and not (raw and value.ndim == 1):
        raise TypeError(f"{name} must be a key from jax.random.key, got {described(value)}")


def array(name: str, value) -> None:
    """Raises TypeError unless ``value`` is an array, and one that JAX takes as it is."""
    if not isinstance(value, Array):
        raise TypeError(
            f"{name} must be a JAX or NumPy array, got {type(value).__name__}; "
            "convert it with jnp.asarray"
        )
    unmasked(name, value)
    if not value.dtype.isnative:  # as in files that another machine wrote
        raise TypeError(
            f"{name} must have this machine's byte order, got {value.dtype}; "
            f"use .astype({value.dtype.newbyteorder('=').name!r})"
        )


def unmasked(name: str, value) -> None:
    """Raises TypeError for a masked array of NumPy."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a JAX or NumPy array, got a masked array, whose mask would be lost; "
            f"pass {name}.data, and leave out pixels with where=~{name}.mask"
        )


def floating(name: str, value) -> None:
    """Raises TypeError unless ``value`` is a floating-point array."""
    array(name, value)
    if not is_floating(value.dtype):
        raise TypeError(
            f"{name} must be floating point of 16, 32 or 64 bits, got {value.dtype}; "
            "use .astype(jnp.float32)"
        )


def floating_maps(name: str, value) -> int:
    """Number of spatial axes, 1 to 3, of floating-point maps ``[B, *S, C]``; raises otherwise."""
    floating(name, value)
    if not 3 <= value.ndim <= 5:
        raise ValueError(
            f"{name} must have shape [batch, 1 to 3 spatial axes, classes], got {value.shape}"
        )
    if 0 in value.shape:
        raise ValueError(f"{name} must not have an empty axis, got shape {value.shape}")
    return value.ndim - 2


def shape(name: str, value, expected: Sequence[int], meaning: str, remedy: str = "") -> None:
    """Raises ValueError unless ``value`` has the expected shape."""
    got, expected = tuple(value.shape), tuple(expected)
    if got == expected:
        return
    if got == (*expected, 1):  # as many data sets and frameworks have it
        remedy = f"use {name}[..., 0]"
    elif (*got, 1) == expected:
        remedy = f"use {name}[..., None]"
    what_to_do = f"; {remedy}" if remedy else ""
    raise ValueError(f"{name} must have shape {expected} ({meaning}), got {got}{what_to_do}")


def mask(name: str, value, expected: Sequence[int]) -> None:
    """Raises unless ``value`` is a boolean mask of the expected shape."""
    array(name, value)
    if value.dtype != bool:
        raise TypeError(f"{name} must be boolean, got {value.dtype}; compare it, e.g. {name} > 0")
    shape(name, value, expected, "[batch, *spatial]")


# --- What messages share


def static(name: str, value, kind: str) -> None:
    """Raises TypeError if ``value`` is traced."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be a static {kind}, known before tracing, got the traced value {value}; "
            "close over it or list it in jit's static_argnames"
        )


def described(value) -> str:
    """Type and value, for a message."""
    return f"{type(value).__name__} {value!r}"[:200]

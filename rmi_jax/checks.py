"""Errors about arguments, before tracing: each names the argument, what it got, what would work.

A static option, such as a region size, raises when it is traced. Of an array, type and shape are
always known and checked; its values where they are known (`concrete`).
"""

import numbers
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from rmi_jax import concrete
from rmi_jax.dtypes import Array, is_floating, is_real

LARGEST_INT = np.iinfo(np.int32).max  # of JAX without 64-bit types
LARGEST = float(np.finfo(np.float32).max)  # larger weights and counts are infinite in float32


# --- Options that must be static


def one_of(name: str, value, choices: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``, TypeError if it is traced."""
    _static(name, value, "string")
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def boolean(name: str, value) -> None:
    """Raises TypeError unless ``value`` is a Python bool."""
    _static(name, value, "bool")
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {_describe(value)}")


def per_axis(name: str, value, ndim: int) -> tuple[int, ...]:
    """Expands an int to one per spatial axis; raises unless all are static and positive."""
    # An array without axes is one int.
    is_array = isinstance(value, np.ndarray) and value.ndim > 0
    if is_array or (isinstance(value, Sequence) and not isinstance(value, str)):
        if len(value) != ndim:
            raise ValueError(
                f"{name} must be an int or one int per spatial axis ({ndim} of them), got {value!r}"
            )
        return tuple(positive_int(name, entry) for entry in value)
    return (positive_int(name, value),) * ndim


def positive_int(name: str, value) -> int:
    """A static positive int; raises TypeError or ValueError otherwise."""
    return static_int(name, value, least=1)


def static_int(name: str, value, *, least: int) -> int:
    """A static int of at least ``least``; raises TypeError or ValueError otherwise."""
    _static(name, value, "int")
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an int, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {_describe(value)}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if number > LARGEST_INT:
        raise ValueError(f"{name} must be at most {LARGEST_INT}, got {number}")
    return number


def static_scalar(name: str, value, *, least: float) -> float:
    """A static real number of at least ``least``; raises TypeError or ValueError otherwise."""
    _static(name, value, "number")
    scalar(name, value)
    if float(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {float(value)}")
    return float(value)


def class_axis(name: str, value, ndim: int) -> int:
    """A static axis index in ``[-ndim, ndim)``, other than the batch axis, made non-negative."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a static int, got {_describe(value)}")
    if not -ndim <= value < ndim or value % ndim == 0:
        raise ValueError(
            f"{name} must index an axis after the batch axis of the {ndim}-D logits, got {value}"
        )
    return int(value) % ndim


def mapped_axes(name: str, value) -> None:
    """Raises unless ``value`` is None, the name of an axis that is mapped here, or some names."""
    names = value if isinstance(value, tuple) else () if value is None else (value,)
    if not all(isinstance(axis, str) for axis in names):
        raise TypeError(
            f"{name} must be the name of a mesh axis inside shard_map, or a tuple of names, "
            f"got {_describe(value)}"
        )
    for axis in names:
        mapped_axis(name, axis)


def mapped_axis(name: str, value) -> int:
    """Number of devices along a mesh axis; raises unless inside a ``shard_map`` that maps it."""
    if not isinstance(value, str):
        raise TypeError(
            f"{name} must be the name of one mesh axis inside shard_map, got {_describe(value)}"
        )
    try:
        return lax.axis_size(value)
    except NameError:
        raise ValueError(
            f"{name} must be an axis of the mesh of a surrounding shard_map, got {value!r}; "
            "outside of shard_map leave it out"
        ) from None


def cells_left(spatial: Sequence[int], factors: Sequence[int], method: str) -> None:
    """Raises ValueError if downsampling would leave an axis without cells."""
    pooled = method in ("avg", "max")
    for n, f in zip(spatial, factors, strict=True):
        if n + 2 * (f // 2) < f if pooled else n < f:
            raise ValueError(
                f"factor {tuple(factors)} leaves no cell of a map of {tuple(spatial)}; "
                "use a smaller factor or a larger map"
            )


def regions_fit(span: Sequence[int], cells: Sequence[int], name: str) -> None:
    """Raises ValueError if a region is larger than the (downsampled) map."""
    if any(n <= s for n, s in zip(cells, span, strict=True)):
        raise ValueError(
            f"region_size and dilation span {tuple(s + 1 for s in span)} cells, but {name} leaves "
            f"only {tuple(cells)}; use a larger map, a smaller factor or a smaller region"
        )


# --- Numbers and arrays, which may be traced


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
        raise TypeError(f"{name} must be a real number, got {_describe(value)}")
    number = concrete.scalar(value)
    if number is not None and not least <= number <= most:
        bound = f"at least {least}" if least else "not negative"
        if most < number <= LARGEST:
            more = "" if remedy is None else f"; {remedy}"
            raise ValueError(f"{name} must be at most {most:g}, got {number}{more}")
        raise ValueError(f"{name} must be finite and {bound} in float32, got {number}")


def vector(name: str, value, length: int, meaning: str) -> None:
    """Raises unless ``value`` is ``length`` real weights, finite and >= 0 where concrete."""
    kinds = Sequence | Array | numbers.Real
    if isinstance(value, str) or not isinstance(value, kinds):
        raise TypeError(f"{name} must be an array of real weights, got {_describe(value)}")
    unmasked(name, value)
    if isinstance(value, Sequence) and any(isinstance(entry, Tracer) for entry in value):
        value = jnp.stack([jnp.asarray(entry) for entry in value])
    weights = value if isinstance(value, jax.Array) else np.asarray(value)
    if not is_real(weights.dtype):
        raise TypeError(f"{name} must be real weights, got {weights.dtype}")
    shape(name, weights, (length,), meaning)
    nonnegative(name, weights)


def key(name: str, value) -> None:
    """Raises TypeError unless ``value`` is one PRNG key."""
    typed = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    raw = isinstance(value, Array) and value.dtype == np.uint32
    if not (typed and value.shape == ()) and not (raw and value.ndim == 1):
        raise TypeError(f"{name} must be a key from jax.random.key, got {_describe(value)}")


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


def _static(name: str, value, kind: str) -> None:
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be a static {kind}, known before tracing, got the traced value {value}; "
            "close over it or list it in jit's static_argnames"
        )


def _describe(value) -> str:
    return f"{type(value).__name__} {value!r}"[:200]

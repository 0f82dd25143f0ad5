"""Errors before tracing: every message names the argument, what it got and what would work."""

import numbers
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

# Options are computed with in float32, unless logits are float64: past these they would be
# infinite, or 0. The largest int is that of JAX without 64-bit types.
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
LARGEST_INT = np.iinfo(np.int32).max
LARGEST_WEIGHT = 1e30  # of all pixels together: scatters of more overflow


def array(name: str, value) -> None:
    """Raises TypeError unless ``value`` is an array, and one that JAX takes as it is."""
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(
            f"{name} must be a JAX or NumPy array, got {type(value).__name__}; "
            "convert it with jnp.asarray"
        )
    _unmasked(name, value)
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


def integers(name: str, value, remedy: str) -> None:
    """Raises TypeError unless ``value`` is an integer array."""
    array(name, value)
    if not _is_integer(value.dtype):
        raise TypeError(f"{name} must be integers, got {value.dtype}; {remedy}")


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
    if tuple(value.shape) != tuple(expected):
        raise ValueError(f"{name} must have shape {tuple(expected)} ({meaning}), got {value.shape}")


def mask(name: str, value, expected: Sequence[int]) -> None:
    """Raises unless ``value`` is a boolean mask of the expected shape."""
    array(name, value)
    if value.dtype != bool:
        raise TypeError(f"{name} must be boolean, got {value.dtype}; compare it, e.g. {name} > 0")
    shape(name, value, expected, "[batch, *spatial]")


def pixel_weights(name: str, value, expected: Sequence[int]) -> None:
    """Raises unless ``value`` is a mask or real weights of the expected shape, where known >= 0."""
    array(name, value)
    if not (value.dtype == bool or _is_real(value.dtype)):
        raise TypeError(f"{name} must be a boolean mask or real weights, got {value.dtype}")
    shape(name, value, expected, "[batch, *spatial]")
    nonnegative(name, value)
    if not isinstance(value, Tracer) and float(value.max()) * value.size > LARGEST_WEIGHT:
        raise ValueError(
            f"{name} must be at most {LARGEST_WEIGHT} / {value.size} pixels, got values up to "
            f"{float(value.max())}; divide it by its mean"
        )


def unit_interval(name: str, value) -> None:
    """Raises ValueError if a concrete ``value`` has an entry outside [0, 1] (NaN passes)."""
    if isinstance(value, Tracer):
        return
    if bool(((value < 0) | (value > 1)).any()):
        raise ValueError(
            f"{name} must lie in [0, 1], got values from {float(value.min())} to "
            f"{float(value.max())}; apply a sigmoid or softmax to logits, divide counts"
        )


def at_most_one(name: str, value, remedy: str) -> None:
    """Raises ValueError if a concrete scalar ``value`` exceeds 1."""
    if not isinstance(value, Tracer) and float(value) > 1:
        raise ValueError(f"{name} must be at most 1, got {float(value)}; {remedy}")


def counts(name: str, value, remedy: str) -> None:
    """Raises unless ``value`` is an array of real numbers, finite and >= 0 where concrete."""
    array(name, value)
    if not _is_real(value.dtype):
        raise TypeError(f"{name} must hold counts, got {value.dtype}; {remedy}")
    nonnegative(name, value)


def parts(name: str, value, remedy: str) -> None:
    """Raises ValueError if an even column of a concrete ``value`` exceeds the odd one after it."""
    if not isinstance(value, Tracer) and bool((value[:, ::2] > value[:, 1::2]).any()):
        raise ValueError(
            f"{name} must not have a part that exceeds its whole, got {value.tolist()}; {remedy}"
        )


def nonnegative(name: str, value) -> None:
    """Raises ValueError if a concrete ``value`` has a negative, infinite or NaN entry."""
    if isinstance(value, Tracer):
        return
    # Both: in bfloat16 and float16 the largest float32 is itself infinite.
    finite = (value < np.inf) & (value <= LARGEST)
    if not bool(((value >= 0) & finite).all()):
        raise ValueError(
            f"{name} must be finite and not negative, got values from {float(value.min())} to "
            f"{float(value.max())}"
        )


def one_of(name: str, value, choices: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def boolean(name: str, value) -> None:
    """Raises TypeError unless ``value`` is a Python bool."""
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


def scalar(name: str, value, *, positive: bool = False) -> None:
    """Raises unless ``value`` is a real scalar, finite and >= 0 (> 0) where it is concrete."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        if value.shape != () or not _is_real(value.dtype):
            raise ValueError(
                f"{name} must be a real scalar, got {value.dtype} of shape {value.shape}"
            )
        if isinstance(value, Tracer):
            return
    elif isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {_describe(value)}")
    number = float(value)
    least = SMALLEST if positive else 0
    if not least <= number <= LARGEST:
        bound = "positive" if positive else "not negative"
        raise ValueError(f"{name} must be finite and {bound} in float32, got {number}")


def static_scalar(name: str, value, *, least: float) -> float:
    """A static real number of at least ``least``; raises TypeError or ValueError otherwise."""
    _static(name, value, "number")
    scalar(name, value)
    if float(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {float(value)}")
    return float(value)


def vector(name: str, value, length: int, meaning: str) -> None:
    """Raises unless ``value`` is ``length`` real weights, finite and >= 0 where concrete."""
    kinds = Sequence | np.ndarray | jax.Array | numbers.Real
    if isinstance(value, str) or not isinstance(value, kinds):
        raise TypeError(f"{name} must be an array of real weights, got {_describe(value)}")
    _unmasked(name, value)
    weights = value if isinstance(value, jax.Array) else np.asarray(value)
    if not _is_real(weights.dtype):
        raise TypeError(f"{name} must be real weights, got {weights.dtype}")
    shape(name, weights, (length,), meaning)
    nonnegative(name, weights)


def mapped_axes(name: str, value) -> None:
    """Raises unless ``value`` is None, the name of an axis that is mapped here, or some names."""
    names = value if isinstance(value, tuple) else (value,)
    if value is None:
        return
    if not all(isinstance(axis, str) for axis in names):
        raise TypeError(
            f"{name} must be the name of a mesh axis inside shard_map, or a tuple of names, "
            f"got {_describe(value)}"
        )
    for axis in names:
        try:
            lax.axis_size(axis)
        except NameError:
            raise ValueError(
                f"{name} must be an axis of the mesh of a surrounding shard_map, got {axis!r}; "
                "outside of shard_map leave it out"
            ) from None


def mapped_axis(name: str, value) -> None:
    """Raises TypeError unless ``value`` is the name of one mapped axis."""
    if not isinstance(value, str):
        raise TypeError(
            f"{name} must be the name of one mesh axis inside shard_map, got {_describe(value)}"
        )


def key(name: str, value) -> None:
    """Raises TypeError unless ``value`` is one PRNG key."""
    typed = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    raw = isinstance(value, jax.Array | np.ndarray) and value.dtype == np.uint32
    if not (typed and value.shape == ()) and not (raw and value.ndim == 1):
        raise TypeError(f"{name} must be a key from jax.random.key, got {_describe(value)}")


def class_axis(name: str, value, ndim: int) -> int:
    """A static axis index in ``[-ndim, ndim)``, other than the batch axis, made non-negative."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a static int, got {_describe(value)}")
    if not -ndim <= value < ndim or value % ndim == 0:
        raise ValueError(
            f"{name} must index an axis after the batch axis of the {ndim}-D logits, got {value}"
        )
    return int(value) % ndim


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


def _static(name: str, value, kind: str) -> None:
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be a static {kind}, known before tracing, got the traced value {value}; "
            "close over it or list it in jit's static_argnames"
        )


def _unmasked(name: str, value) -> None:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a JAX or NumPy array, got a masked array, whose mask would be lost; "
            f"pass {name}.data, and leave out pixels with where=~{name}.mask"
        )


def _is_floating(dtype) -> bool:
    # Neither NumPy's long double, which JAX does not know, nor floats of 8 bits and fewer.
    return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize in (2, 4, 8)


def _is_integer(dtype) -> bool:
    return np.issubdtype(dtype, np.integer)  # not those of 4 bits and fewer


def _is_real(dtype) -> bool:
    return _is_floating(dtype) or _is_integer(dtype)


def _describe(value) -> str:
    return f"{type(value).__name__} {value!r}"[:200]

"""Errors about options, before tracing: each names the option, what it got and what would work."""

import numbers
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from rmi_jax import array_checks
from rmi_jax.array_checks import LARGEST

LARGEST_INT = np.iinfo(np.int32).max  # that of JAX without 64-bit types


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


def scalar(name: str, value, *, least: float = 0, most: float = LARGEST) -> None:
    """Raises unless ``value`` is a real scalar in ``[least, most]`` where it is concrete."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        if value.shape != () or not array_checks.is_real(value.dtype):
            raise ValueError(
                f"{name} must be a real scalar, got {value.dtype} of shape {value.shape}"
            )
    elif isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {_describe(value)}")
    number = array_checks.concrete_scalar(value)
    if number is not None and not least <= number <= most:
        bound = f"at least {least}" if least else "not negative"
        if most < number <= LARGEST:
            raise ValueError(f"{name} must be at most {most:g}, got {number}")
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
    array_checks.unmasked(name, value)
    if isinstance(value, Sequence) and any(isinstance(entry, Tracer) for entry in value):
        value = jnp.stack([jnp.asarray(entry) for entry in value])
    weights = value if isinstance(value, jax.Array) else np.asarray(value)
    if not array_checks.is_real(weights.dtype):
        raise TypeError(f"{name} must be real weights, got {weights.dtype}")
    array_checks.shape(name, weights, (length,), meaning)
    array_checks.nonnegative(name, weights)


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


def _describe(value) -> str:
    return f"{type(value).__name__} {value!r}"[:200]

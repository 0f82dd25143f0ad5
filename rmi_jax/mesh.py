"""Axes of a device mesh that arguments name: mapped by a surrounding `shard_map`, or an error."""

import jax
from jax import lax

from rmi_jax import checks


def mapped_axes(name: str, value) -> None:
    """Raises unless ``value`` is None, the name of an axis that is mapped here, or some names."""
    names = value if isinstance(value, tuple) else () if value is None else (value,)
    if not all(isinstance(axis, str) for axis in names):
        raise TypeError(
            f"{name} must be the name of a mesh axis inside shard_map, or a tuple of names, "
            f"got {checks.described(value)}"
        )
    for axis in names:
        mapped_axis(name, axis)


def mapped_axis(name: str, value) -> int:
    """Number of devices along a mesh axis; raises unless inside a ``shard_map`` that maps it."""
    if not isinstance(value, str):
        raise TypeError(
            f"{name} must be the name of one mesh axis inside shard_map, "
            f"got {checks.described(value)}"
        )
    try:
        return lax.axis_size(value)
    except NameError:
        raise ValueError(
            f"{name} must be an axis of the mesh of a surrounding shard_map, got {value!r}; "
            "outside of shard_map leave it out"
        ) from None


def axis_size(name: str, value: str) -> int:
    """Number of devices along the mesh axis ``value``; raises unless inside its ``shard_map``."""
    devices = mapped_axis(name, value)
    index = lax.axis_index(value)
    # With check_vma=True the type of a sum over devices says that it is the same on all of them.
    # (Only types are compared here: the sum is not used, and compilers remove it.)
    if jax.typeof(index) == jax.typeof(lax.psum(index, value)):
        # Otherwise JAX differentiates such sums as if each device had a loss of its own.
        raise ValueError(f"{name} needs shard_map with check_vma=True, its default")
    return devices

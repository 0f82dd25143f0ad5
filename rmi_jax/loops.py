"""Loops over slots whose arrays stay sharded as the images are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.geometry import Maps
from rmi_jax.matrices import zeros_from


def each_slot(
    maps: Maps,
    count: jax.Array,
    visit: Callable[[jax.Array], Any],
    order: jax.Array | None = None,
) -> Any:
    """Stacks ``visit(k)`` over the slots k; 0 for all but the first ``count`` (in ``order``)."""
    classes = maps.inputs.shape[-1]

    def step(i, stacked):
        k = i if order is None else order[i]
        return jax.tree.map(
            lambda s, v: lax.dynamic_update_index_in_dim(s, v, k, 0), stacked, visit(k)
        )

    def start(value):
        zeros = zeros_like_images(maps.inputs, value.shape[1:]).astype(value.dtype)
        return jnp.broadcast_to(zeros, (classes, *value.shape))

    stacked = jax.tree.map(start, jax.eval_shape(visit, jnp.int32(0)))
    return lax.fori_loop(0, count, step, stacked)


def zeros_like_images(maps: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Zeros ``[B, *shape]`` that are sharded, and vary inside shard_map, as the images do."""
    # The barrier keeps XLA from sharing these zeros with others, which costs a copy of the maps.
    zero = lax.optimization_barrier(zeros_from(maps[(slice(None), *[0] * (maps.ndim - 1))]))
    return jnp.broadcast_to(zero.reshape(-1, *[1] * len(shape)), (maps.shape[0], *shape))

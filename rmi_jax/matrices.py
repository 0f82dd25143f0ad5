"""Products and triangular factors of small matrices ``[..., d, d]`` with any leading batch axes.

The factorizations are our own loops over columns: ``jnp.linalg`` fails under an explicitly sharded
batch, and columns unrolled would take a minute to compile at d = 27.
"""

import jax
import jax.numpy as jnp
from jax import lax

# Products up to this size are written out as sums: a TPU's compiler takes seconds for each small
# matrix product, and a GPU's searches for the best way to do it.
_SMALL = 32


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Batched product at full float32 precision on every device."""
    if max(*a.shape[-2:], *b.shape[-2:]) <= _SMALL:
        return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def transpose(a: jax.Array) -> jax.Array:
    """Matrix transpose of the last two axes."""
    return jnp.swapaxes(a, -1, -2)


def gram(a: jax.Array) -> jax.Array:
    """``a a'``."""
    return matmul(a, transpose(a))


def congruent(matrix: jax.Array, scatter: jax.Array) -> jax.Array:
    """``matrix scatter matrix'``."""
    return matmul(matmul(matrix, scatter), transpose(matrix))


def diagonal(a: jax.Array) -> jax.Array:
    """The diagonals ``[..., d]`` of matrices."""
    return jnp.diagonal(a, axis1=-2, axis2=-1)


def zeros_from(a: jax.Array) -> jax.Array:
    """Zeros that are sharded, and vary inside shard_map, as ``a`` does, whatever its values."""
    return jnp.where(a > 0, jnp.zeros_like(a), jnp.zeros_like(a))


def identity_from(a: jax.Array) -> jax.Array:
    """Identity matrices of the shape and sharding of ``a`` ``[..., d, d]``."""
    return zeros_from(a) + jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)


def cholesky(a: jax.Array, floor: jax.Array) -> jax.Array:
    """Lower Cholesky factor of matrices whose pivots are at least ``floor`` ``[..., d]``, or noise.

    A pivot below its floor is lifted to it. The other entries of that column would then be
    unbounded, so every entry is clipped at the bound on it: the square root of what is left of its
    row's diagonal, above the floor. Both repair what rounding did, so neither has a derivative.
    """
    index = jnp.arange(a.shape[-1])
    floor = jnp.broadcast_to(floor, a.shape[:-1])

    def eliminate(j, a):  # columns before j are done, the others hold what is left of the matrix
        column = _at(a, j, -1)
        pivot = _at(column, j, -1)
        root = jnp.sqrt(repaired(pivot, jnp.maximum(pivot, _at(floor, j, -1))))[..., None]
        column = column / root
        bound = jnp.sqrt(jnp.maximum(diagonal(a) - floor, 0))
        column = repaired(column, jnp.clip(column, -bound, bound))
        column = jnp.where(index > j, column, jnp.where(index == j, root, 0))
        remainder = a - column[..., :, None] * column[..., None, :]
        return jnp.where(index == j, column[..., :, None], remainder)

    return jnp.tril(lax.fori_loop(0, a.shape[-1], eliminate, a))


def inverse(chol: jax.Array) -> jax.Array:
    """The inverse of lower triangular matrices."""
    dim = chol.shape[-1]
    index = jnp.arange(dim)[:, None]

    def substitute(j, x):
        column = _at(chol, j, -1)[..., :, None]
        row = _at(x, j, -2)[..., None, :] / _at(column, j, -2)[..., None]
        return jnp.where(index == j, row, x - jnp.where(index > j, column, 0) * row)

    return lax.fori_loop(0, dim, substitute, identity_from(chol))


def repaired(value: jax.Array, repair: jax.Array) -> jax.Array:
    """``repair``, with the derivative of ``value``."""
    return value + lax.stop_gradient(repair - value)


def _at(a: jax.Array, j: jax.Array, axis: int) -> jax.Array:
    return lax.dynamic_index_in_dim(a, j, axis, keepdims=False)

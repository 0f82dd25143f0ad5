"""Second-order statistics of one pair of region vectors: scatter in, nats and gradient out.

Nothing here knows of images. Matrices are ``[..., d, d]`` or ``[..., 2d, 2d]`` with any leading
batch axes. The small factorizations are our own loops over columns: ``jnp.linalg`` fails under an
explicitly sharded batch, and columns unrolled would take a minute to compile at d = 27.

Notation (docs/theory): ``P`` and ``Y`` are the centred region vectors of prediction and truth,
``X = [P; Y]``, alpha the jitter, tau the anchor, and the joint matrix is
``J = X X' + tau [Y; Y] [Y; Y]' + alpha I``. The lower right block of its Cholesky factor is that of
``M + alpha I``, so one factorization is all that conditioning takes. To lose fewer digits, sums are
taken not of the columns ``X`` but of ``z = C [P; D]``, with the errors ``D = Y - s P`` of a scalar
slope s and a change of basis C.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

# Products up to this size are written out as sums: a TPU's compiler takes seconds for each small
# matrix product, and a GPU's searches for the best way to do it.
_SMALL = 32


class Prior(NamedTuple):
    """What is added to the sample of region vectors; no gradient flows to it."""

    jitter: jax.Array  # alpha, a scalar: independent noise in every component
    anchor: jax.Array  # tau, a scalar: copies of the truth as its own prediction


class Whitening(NamedTuple):
    """The factor of the joint matrix in the basis of ``z``."""

    chol: jax.Array  # K, lower triangular [..., 2d, 2d]
    floor: jax.Array  # [..., 2d] bound below the squared diagonal of K: alpha times that of C
    inverse: jax.Array  # K^-1, which takes z to white columns
    change: jax.Array  # K^-1 C, which takes [P; D] to white columns
    inflation: jax.Array  # [...] the largest variance inflation factor of the rows of z


class Terms(NamedTuple):
    """What the loss and its report are made of, ``[...]`` each, nats per region dimension."""

    information: jax.Array  # 1/(2d) log det(I + M / alpha): the loss above its floor
    entropy: jax.Array  # 1/(2d) log det(I + Y Y' / alpha): what there is to explain
    unanchored: jax.Array  # the information for tau = 0, for the mutual information
    slope: jax.Array  # s = <y, p> / (<p, p> + alpha), which scales the prediction to the truth


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


def zeros_from(a: jax.Array) -> jax.Array:
    """Zeros that are sharded, and vary inside shard_map, as ``a`` does, whatever its values."""
    return jnp.where(a > 0, jnp.zeros_like(a), jnp.zeros_like(a))


def identity_from(a: jax.Array) -> jax.Array:
    """Identity matrices of the shape and sharding of ``a`` ``[..., d, d]``."""
    return zeros_from(a) + jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)


def cholesky(a: jax.Array, floor: jax.Array) -> jax.Array:
    """Lower Cholesky factor of matrices whose exact pivots are at least ``floor`` ``[..., d]``.

    A pivot that rounding took below its floor is lifted to it. The other entries of that column
    would then be unbounded, so every entry is clipped at the exact bound on it: the square root of
    what is left of its row's diagonal, above the floor. In exact arithmetic neither changes
    anything, so neither has a derivative.
    """
    index = jnp.arange(a.shape[-1])
    floor = jnp.broadcast_to(floor, a.shape[:-1])

    def eliminate(j, a):  # columns before j are done, the others hold what is left of the matrix
        column = _at(a, j, -1)
        pivot = _at(column, j, -1)
        root = jnp.sqrt(_repaired(pivot, jnp.maximum(pivot, _at(floor, j, -1))))[..., None]
        column = column / root
        bound = jnp.sqrt(jnp.maximum(diagonal(a) - floor, 0))
        column = _repaired(column, jnp.clip(column, -bound, bound))
        column = jnp.where(index > j, column, jnp.where(index == j, root, 0))
        remainder = a - column[..., :, None] * column[..., None, :]
        return jnp.where(index == j, column[..., :, None], remainder)

    return jnp.tril(lax.fori_loop(0, a.shape[-1], eliminate, a))


def solve(chol: jax.Array, b: jax.Array, *, transposed: bool = False) -> jax.Array:
    """Solves ``L x = b``, or ``L' x = b`` if transposed, for lower triangular ``L``."""
    dim = chol.shape[-1]
    index = jnp.arange(dim)[:, None]

    def substitute(step, x):
        j = dim - 1 - step if transposed else step
        column = _at(chol, j, -2 if transposed else -1)[..., :, None]
        row = _at(x, j, -2)[..., None, :] / _at(column, j, -2)[..., None]
        later = index < j if transposed else index > j
        return jnp.where(index == j, row, x - jnp.where(later, column, 0) * row)

    return lax.fori_loop(0, dim, substitute, b)


def whiten(
    scatter: jax.Array, itself: jax.Array, change: jax.Array, slope: jax.Array, prior: Prior
) -> Whitening:
    """Factors the joint matrix in the basis of ``z = C [P; D]`` (docs/theory, F1b).

    Args:
      scatter: ``z z'``, ``[..., 2d, 2d]``.
      itself: the same where the truth predicts itself, with the columns ``of_itself(C) Y``.
      change: C, lower triangular ``[..., 2d, 2d]``; the identity in a first pass.
      slope: s of the errors ``D = Y - s P``, ``[...]``.
      prior: jitter and anchor.
    """
    # Nothing is broadcast: each image and class has matrices of its own.
    chex.assert_equal_shape([scatter, itself, change])
    chex.assert_shape(slope, scatter.shape[:-2])
    noise = gram(to_regions(change, slope))
    joint = scatter + prior.anchor * itself + prior.jitter * noise
    # J >= alpha I, so that in this basis no pivot is smaller than alpha times that of C C'.
    floor = prior.jitter * jnp.square(diagonal(change))
    chol = cholesky(joint, floor)
    inverse = solve(chol, identity_from(chol))
    # Variance inflation factors: the variance of a row over what is left of it given all other
    # rows. Rounding errors of the sums grow by this factor on their way to K. (What is left given
    # only the rows before it, the pivot, is not enough to tell.)
    inflation = jnp.max(diagonal(joint) * jnp.sum(jnp.square(inverse), axis=-2), axis=-1)
    return Whitening(chol, floor, inverse, matmul(inverse, change), inflation)


def to_regions(matrix: jax.Array, slope: jax.Array) -> jax.Array:
    """``matrix`` ``[..., m, 2d]`` for columns ``[P; D]``, rewritten for columns ``[P; Y]``."""
    p, d = jnp.split(matrix, 2, axis=-1)
    return jnp.concatenate([p - slope[..., None, None] * d, d], axis=-1)


def of_itself(matrix: jax.Array, slope: jax.Array) -> jax.Array:
    """``matrix`` for columns ``[P; D]``, rewritten for columns Y where ``P = Y``: D = (1 - s) Y."""
    p, d = jnp.split(matrix, 2, axis=-1)
    return p + (1 - slope[..., None, None]) * d


def truth_scatter(scatter: jax.Array, slope: jax.Array) -> jax.Array:
    """``Y Y'`` from the scatter of ``[P; D]``, with ``Y = s P + D``."""
    upper, lower = jnp.split(scatter, 2, axis=-2)
    rows = slope[..., None, None] * upper + lower
    p, d = jnp.split(rows, 2, axis=-1)
    return slope[..., None, None] * p + d


def with_jitter(scatter: jax.Array, jitter: jax.Array) -> jax.Array:
    """``scatter + alpha I``."""
    return scatter + jitter * identity_from(scatter)


def explanatory_slope(scatter: jax.Array, slope: jax.Array, jitter: jax.Array) -> jax.Array:
    """``<y, p> / (<p, p> + alpha)`` from the scatter of ``[P; D]``, without a derivative."""
    dim = scatter.shape[-1] // 2
    pp = jnp.trace(scatter[..., :dim, :dim], axis1=-2, axis2=-1)
    dp = jnp.trace(scatter[..., dim:, :dim], axis1=-2, axis2=-1)
    return lax.stop_gradient((dp + slope * pp) / (pp + jitter))


def congruent(matrix: jax.Array, scatter: jax.Array) -> jax.Array:
    """``matrix scatter matrix'``."""
    return matmul(matmul(matrix, scatter), transpose(matrix))


def information(whitening: Whitening) -> jax.Array:
    """``1/(2d) log det(I + M / alpha)``, from the lower half of the factor."""
    above = diagonal(whitening.chol) / jnp.sqrt(whitening.floor)
    # Not jnp.split, which JAX 0.7 cannot transpose inside shard_map.
    value = jnp.mean(jnp.log(above[..., above.shape[-1] // 2 :]), axis=-1)
    return _repaired(value, jnp.maximum(value, 0))


def entropy(chol_y: jax.Array, jitter: jax.Array) -> jax.Array:
    """``1/(2d) log det(I + Y Y' / alpha)`` from the factor of ``Y Y' + alpha I``."""
    return jnp.mean(jnp.log(diagonal(chol_y) / jnp.sqrt(jitter)), axis=-1)  # exactly 0 if Y is


def diagonal(a: jax.Array) -> jax.Array:
    """The diagonals ``[..., d]`` of matrices."""
    return jnp.diagonal(a, axis1=-2, axis2=-1)


def _repaired(value: jax.Array, repair: jax.Array) -> jax.Array:
    return value + lax.stop_gradient(repair - value)


def _at(a: jax.Array, j: jax.Array, axis: int) -> jax.Array:
    return lax.dynamic_index_in_dim(a, j, axis, keepdims=False)

"""Second-order statistics of one pair of region vectors: scatter in, nats and gradient out.

Nothing here knows of images. Matrices are ``[..., d, d]`` with any leading batch axes. The small
factorizations are our own loops over columns: ``jnp.linalg`` fails under an explicitly sharded
batch, and columns unrolled would take a minute to compile at d = 27.

Notation (docs/theory): ``P`` and ``Y`` are centred region vectors of prediction and truth,
``D = T (Y - W0 P)`` the errors left by a first guess ``W0`` of the regression matrix, alpha is the
jitter, ``A = P P' + alpha I``, ``M = Y Y' - Y P' A^-1 P Y'``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Scatter(NamedTuple):
    """Scatter matrices of prediction and error regions, ``[..., d, d]`` each."""

    pp: jax.Array  # P P'
    dp: jax.Array  # D P'
    dd: jax.Array  # D D'


class Frame(NamedTuple):
    """What the regions are measured in: ``Q P`` and ``D = T (Y - W0 P)``."""

    guess: jax.Array  # W0
    q: jax.Array  # lower triangular
    t: jax.Array  # lower triangular


class Conditional(NamedTuple):
    """The regression of truth on prediction."""

    step: jax.Array  # W - W0, with W = Y P' A^-1
    chol_a: jax.Array  # lower Cholesky factor of A
    chol: jax.Array  # lower Cholesky factor of M + alpha I
    cancellation: jax.Array  # [...] how far the smallest pivot fell below what it is taken from


class Terms(NamedTuple):
    """What the loss and its report are made of, ``[...]`` each, nats per region dimension."""

    information: jax.Array  # 1/(2d) log det(I + M / alpha): the loss above its floor
    entropy: jax.Array  # 1/(2d) log det(I + Y Y' / alpha): what there is to explain
    slope: jax.Array  # s = <y, p> / (<p, p> + alpha), which scales the prediction to the truth


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Batched product at full float32 precision on every device."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def transpose(a: jax.Array) -> jax.Array:
    """Matrix transpose of the last two axes."""
    return jnp.swapaxes(a, -1, -2)


def zeros_from(a: jax.Array) -> jax.Array:
    """Zeros that are sharded, and vary inside shard_map, as ``a`` does, whatever its values."""
    return jnp.where(a > 0, jnp.zeros_like(a), jnp.zeros_like(a))


def identity_from(a: jax.Array) -> jax.Array:
    """Identity matrices of the shape and sharding of ``a`` ``[..., d, d]``."""
    return zeros_from(a) + jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)


def _repaired(value: jax.Array, repair: jax.Array) -> jax.Array:
    # The repairs below change nothing in exact arithmetic, so their derivative is the identity.
    return value + lax.stop_gradient(repair - value)


def cholesky(a: jax.Array, floor: jax.Array) -> jax.Array:
    """Lower Cholesky factor; pivots that rounding took below ``floor`` ``[..., d]`` are lifted."""
    index = jnp.arange(a.shape[-1])
    floor = jnp.broadcast_to(floor, a.shape[:-1])

    def eliminate(j, a):  # columns before j are done, the others hold what is left of the matrix
        column = _at(a, j, -1)
        pivot = _at(column, j, -1)
        root = jnp.sqrt(_repaired(pivot, jnp.maximum(pivot, _at(floor, j, -1))))[..., None]
        column = jnp.where(index > j, column / root, jnp.where(index == j, root, 0))
        rest = a - column[..., :, None] * column[..., None, :]
        return jnp.where(index == j, column[..., :, None], rest)

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


def _at(a: jax.Array, j: jax.Array, axis: int) -> jax.Array:
    return lax.dynamic_index_in_dim(a, j, axis, keepdims=False)


def condition(scatter: Scatter, frame: Frame, jitter: jax.Array) -> Conditional:
    """Conditions truth on prediction without the textbook's cancellation (docs/theory, F1b).

    With ``V = T W0`` and ``F = D P' - alpha V``, exactly and in any frame,
    ``T (W - W0) = F A^-1`` and
    ``T (M + alpha I) T' = D D' + alpha (T T' + V V') - F A^-1 F'``.

    Args:
      scatter: scatter matrices of the centred ``Q P`` and ``D``.
      frame: what they are measured in; at first no more than the slope times the identity.
      jitter: alpha, a scalar.
    """
    guess, q, t = frame
    a = scatter.pp + jitter * matmul(q, transpose(q))  # Q A Q'
    chol_a = cholesky(a, jitter * jnp.square(_diagonal(q)))
    v, noise = matmul(t, guess), jitter * matmul(t, transpose(t))
    f = scatter.dp - jitter * matmul(v, transpose(q))  # F Q'
    whitened = solve(chol_a, transpose(f))
    unexplained = scatter.dd + jitter * matmul(v, transpose(v)) + noise
    m = unexplained - matmul(transpose(whitened), whitened)
    # T M T' is positive semidefinite, so no entry exceeds the geometric mean of two diagonals:
    # without this bound a lifted pivot can leave entries so large that later columns overflow.
    diagonal = jnp.maximum(_diagonal(m - noise), 0)
    bound = lax.stop_gradient(jnp.sqrt(diagonal[..., :, None]) * jnp.sqrt(diagonal[..., None, :]))
    m = _repaired(m, noise + jnp.clip(m - noise, -bound, bound))
    chol = cholesky(m, jitter * jnp.square(_diagonal(t)))
    cancellation = jnp.maximum(_lost(a, chol_a), _lost(unexplained, chol))
    step = transpose(solve(chol_a, whitened, transposed=True))
    return Conditional(solve(t, matmul(step, q)), solve(q, chol_a), solve(t, chol), cancellation)


def _lost(a: jax.Array, chol: jax.Array) -> jax.Array:
    return jnp.max(_diagonal(a) / jnp.square(_diagonal(chol)), axis=-1)


def log_det(chol: jax.Array, unit: jax.Array) -> jax.Array:
    """``log det(L L' / unit)`` in nats; exactly 0 where ``L L' = unit I``."""
    return jnp.sum(jnp.log(jnp.square(_diagonal(chol)) / unit), axis=-1)


def terms(
    scatter: Scatter, guess: jax.Array, chol: jax.Array, chol_y: jax.Array, jitter: jax.Array
) -> Terms:
    """Reads the report off the factors of ``M + alpha I`` and ``Y Y' + alpha I``."""
    per_dim = 0.5 / guess.shape[-1]
    yp = scatter.dp + matmul(guess, scatter.pp)
    slope = _trace(yp) / (_trace(scatter.pp) + jitter)
    return Terms(
        per_dim * log_det(chol, jitter),
        per_dim * log_det(chol_y, jitter),
        lax.stop_gradient(slope),
    )


def truth_scatter(scatter: Scatter, guess: jax.Array, jitter: jax.Array) -> jax.Array:
    """``Y Y' + alpha I``, from ``Y = D + W0 P``."""
    cross = matmul(guess, transpose(scatter.dp))
    explained = matmul(matmul(guess, scatter.pp), transpose(guess))
    yy = scatter.dd + cross + transpose(cross) + explained
    return yy + jitter * jnp.broadcast_to(jnp.eye(yy.shape[-1], dtype=yy.dtype), yy.shape)


def _diagonal(a: jax.Array) -> jax.Array:
    return jnp.diagonal(a, axis1=-2, axis2=-1)


def _trace(a: jax.Array) -> jax.Array:
    return jnp.trace(a, axis1=-2, axis2=-1)

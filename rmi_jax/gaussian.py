"""Second-order statistics of one pair of region vectors: scatter in, nats and gradient out.

Nothing here knows of images. Matrices are ``[..., d, d]`` with any leading batch axes. The small
factorizations are written out over columns, because ``jnp.linalg`` fails under an explicitly
sharded batch, loops on TPU and refuses bfloat16.

Notation (docs/theory): ``P`` and ``Y`` are centred region vectors of prediction and truth,
``D = Y - W0 P`` the errors left by a first guess ``W0`` of the regression matrix, and alpha the
jitter. ``A = P P' + alpha I``, ``M = Y Y' - Y P' A^-1 P Y'``.
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


class Conditional(NamedTuple):
    """The regression of truth on prediction, as factors of its two positive matrices."""

    correction: jax.Array  # G = F A^-1, with W = W0 + G the regression matrix
    chol: jax.Array  # lower Cholesky factor of M + alpha I
    cancellation: jax.Array  # [...] how far below the scatter of D the smallest pivot fell


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


def _repaired(value: jax.Array, repair: jax.Array) -> jax.Array:
    # The repairs below change nothing in exact arithmetic, so their derivative is the identity.
    return value + lax.stop_gradient(repair - value)


def cholesky(a: jax.Array, floor: jax.Array) -> jax.Array:
    """Lower Cholesky factor of ``a >= floor * I``; a pivot that rounding took below is lifted."""
    rest, columns = a, []
    for j in range(a.shape[-1]):
        pivot = rest[..., 0, 0]
        root = jnp.sqrt(_repaired(pivot, jnp.maximum(pivot, floor)))[..., None]
        below = rest[..., 1:, 0] / root
        rest = rest[..., 1:, 1:] - below[..., :, None] * below[..., None, :]
        columns.append(jnp.concatenate([jnp.zeros_like(a[..., :j, 0]), root, below], axis=-1))
    return jnp.stack(columns, axis=-1)


def solve_lower(chol: jax.Array, b: jax.Array) -> jax.Array:
    """Solves ``L x = b`` for lower triangular ``L``."""
    rest, rows = b, []
    for j in range(chol.shape[-1]):
        row = rest[..., 0, :] / chol[..., j, j, None]
        rest = rest[..., 1:, :] - chol[..., j + 1 :, j, None] * row[..., None, :]
        rows.append(row)
    return jnp.stack(rows, axis=-2)


def solve_upper(chol: jax.Array, b: jax.Array) -> jax.Array:
    """Solves ``L' x = b`` for lower triangular ``L``."""
    rest, rows = b, []
    for j in reversed(range(chol.shape[-1])):
        row = rest[..., j, :] / chol[..., j, j, None]
        rest = rest[..., :j, :] - chol[..., j, :j, None] * row[..., None, :]
        rows.append(row)
    return jnp.stack(rows[::-1], axis=-2)


def condition(scatter: Scatter, guess: jax.Array, jitter: jax.Array) -> Conditional:
    """Conditions truth on prediction without the textbook's cancellation (docs/theory, F1b).

    With ``F = D P' - alpha W0``, exactly and for any guess ``W0``,
    ``W = W0 + F A^-1`` and ``M + alpha I = D D' + alpha (I + W0 W0') - F A^-1 F'``.

    Args:
      scatter: scatter matrices of the centred ``P`` and ``D``.
      guess: ``W0`` ``[..., d, d]``; the slope times the identity in a first pass.
      jitter: alpha, a scalar.
    """
    jitter_eye = jitter * jnp.eye(guess.shape[-1], dtype=guess.dtype)
    chol_a = cholesky(scatter.pp + jitter_eye, jitter)
    f = scatter.dp - jitter * guess
    t = solve_lower(chol_a, transpose(f))
    unexplained = scatter.dd + jitter * matmul(guess, transpose(guess)) + jitter_eye
    m = unexplained - matmul(transpose(t), t)
    # M is positive semidefinite, so |M_ij| <= sqrt(M_ii M_jj): without this bound a lifted pivot
    # can still leave entries so large that the next columns overflow.
    scale = lax.stop_gradient(jnp.sqrt(jnp.maximum(jnp.diagonal(m, axis1=-2, axis2=-1) - jitter, 0)))
    bound = scale[..., :, None] * scale[..., None, :] + jitter_eye
    m = _repaired(m, jnp.clip(m, -bound, bound))
    chol = cholesky(m, jitter)
    before = jnp.diagonal(unexplained, axis1=-2, axis2=-1)
    pivots = jnp.square(jnp.diagonal(chol, axis1=-2, axis2=-1))
    return Conditional(transpose(solve_upper(chol_a, t)), chol, jnp.max(before / pivots, axis=-1))


def log_det(chol: jax.Array, unit: jax.Array) -> jax.Array:
    """``log det(L L' / unit)`` in nats; exactly 0 where ``L L' = unit I``."""
    return jnp.sum(jnp.log(jnp.square(jnp.diagonal(chol, axis1=-2, axis2=-1)) / unit), axis=-1)


def terms(
    scatter: Scatter,
    conditional: Conditional,
    guess: jax.Array,
    slope: jax.Array,
    jitter: jax.Array,
) -> Terms:
    """Reads the loss and the entropy of the truth off the statistics of one pair."""
    cross = matmul(guess, transpose(scatter.dp))
    explained = matmul(matmul(guess, scatter.pp), transpose(guess))
    yy = scatter.dd + cross + transpose(cross) + explained
    chol_y = cholesky(yy + jitter * jnp.eye(yy.shape[-1], dtype=yy.dtype), jitter)
    per_dim = 0.5 / yy.shape[-1]
    information, entropy = (log_det(c, jitter) * per_dim for c in (conditional.chol, chol_y))
    return Terms(information, entropy, slope)

"""Second-order statistics of one pair of region vectors: scatter in, nats and gradient out.

Nothing here knows of images. Matrices are ``[..., d, d]`` or ``[..., 2d, 2d]`` with any leading
batch axes.

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

from rmi_jax import matrices
from rmi_jax.matrices import cholesky, diagonal, gram, identity_from, matmul, repaired

ROUNDING = 32  # largest error assumed of a sum over positions, in units of its last place


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
    unanchored: jax.Array | None  # the information for tau = 0, for a report; None without one
    slope: jax.Array  # s = <y, p> / (<p, p> + alpha), which scales the prediction to the truth


def whiten(
    scatter: jax.Array, itself: jax.Array, change: jax.Array, slope: jax.Array, prior: Prior
) -> Whitening:
    """Factors the joint matrix in the basis of ``z = C [P; D]`` (docs/theory, F1b).

    Args:
      scatter: ``z z'``, ``[..., 2d, 2d]``.
      itself: ``z z'`` where ``P = Y``, as in the anchor's copies: of columns ``of_itself(C) Y``.
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
    # A pivot below the rounding errors of its row is noise, and so is the column that it divides: a
    # few of them in a row would multiply each other out of the range of float32. A further pass
    # computes them again, in a better basis.
    noise_floor = ROUNDING * jnp.finfo(joint.dtype).eps * diagonal(joint)
    chol = cholesky(joint, jnp.maximum(floor, noise_floor))
    inverse = matrices.inverse(chol)
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


def information(whitening: Whitening) -> jax.Array:
    """``1/(2d) log det(I + M / alpha)``, from the lower half of the factor."""
    above = diagonal(whitening.chol) / jnp.sqrt(whitening.floor)
    # Not jnp.split, which JAX 0.7 cannot transpose inside shard_map.
    value = jnp.mean(jnp.log(above[..., above.shape[-1] // 2 :]), axis=-1)
    return repaired(value, jnp.maximum(value, 0))


def entropy(chol_y: jax.Array, jitter: jax.Array) -> jax.Array:
    """``1/(2d) log det(I + Y Y' / alpha)`` from the factor of ``Y Y' + alpha I``."""
    return jnp.mean(jnp.log(diagonal(chol_y) / jnp.sqrt(jitter)), axis=-1)  # exactly 0 if Y is

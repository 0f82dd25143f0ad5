"""Centring a prediction and its truth, and scaling one to the other, before regions are taken.

Sums over small numbers lose fewer digits. So means are subtracted from the maps, and the truth is
replaced by the errors ``D = Y - s P`` left by a scalar slope (docs/theory, F1b).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rmi_jax.gaussian import Prior
from rmi_jax.geometry import Halo
from rmi_jax.halo import summed


class Spread(NamedTuple):
    """Weighted means and second moments about them, ``[B]`` each, or with further leading axes."""

    mean_p: jax.Array
    mean_y: jax.Array
    pp: jax.Array
    yp: jax.Array
    yy: jax.Array


class Centring(NamedTuple):
    """How the planes of a slot are centred before regions are taken."""

    mean_p: jax.Array
    mean_y: jax.Array
    slope: jax.Array  # s, with errors D = Y - s P


def spread(p: jax.Array, y: jax.Array, weights: jax.Array) -> Spread:
    """Spread of planes ``[B, *cells]``."""
    axes = tuple(range(1, p.ndim))
    total = jnp.sum(weights, axis=axes, keepdims=True)
    share = weights / jnp.where(total > 0, total, 1)
    mean_p, mean_y = (jnp.sum(share * m, axis=axes, keepdims=True) for m in (p, y))
    p, y = p - mean_p, y - mean_y
    pp, yp, yy = (jnp.sum(weights * a * b, axis=axes) for a, b in ((p, p), (y, p), (y, y)))
    return Spread(jnp.squeeze(mean_p, axes), jnp.squeeze(mean_y, axes), pp, yp, yy)


def combined(parts: Spread, weights: jax.Array, halo: Halo) -> Spread:
    """Spread of whole planes from those of the parts that devices hold."""
    weight = jnp.sum(weights, axis=tuple(range(1, weights.ndim)))[None]  # one row for all slots
    total = summed(weight, halo)
    share = weight / jnp.where(total > 0, total, 1)
    mean_p, mean_y = summed((share * parts.mean_p, share * parts.mean_y), halo)
    off_p, off_y = parts.mean_p - mean_p, parts.mean_y - mean_y
    about = (
        parts.pp + weight * off_p * off_p,
        parts.yp + weight * off_y * off_p,
        parts.yy + weight * off_y * off_y,
    )
    return Spread(mean_p, mean_y, *summed(about, halo))


def make_centring(spread: Spread, prior: Prior) -> Centring:
    """Means and slope."""
    slope = anchored_slope(spread.pp, spread.yp, spread.yy, prior)
    return Centring(spread.mean_p, spread.mean_y, slope)


def anchored_slope(pp: jax.Array, yp: jax.Array, yy: jax.Array, prior: Prior) -> jax.Array:
    """Least-squares slope from the prediction to the truth, the anchor's copies included."""
    return (yp + prior.anchor * yy) / (pp + prior.anchor * yy + prior.jitter)


def centred(p: jax.Array, y: jax.Array, by: Centring) -> jax.Array:
    """Centred probabilities and errors, ``[B, 2, *cells]``."""
    chex.assert_equal_shape([p, y])
    chex.assert_shape([*by], p.shape[:1])
    mean_p, mean_y, slope = (_as_planes(c, p) for c in by)
    p = p - mean_p
    return jnp.stack([p, (y - mean_y) - slope * p], axis=1)


def with_truth(p: jax.Array, y: jax.Array, by: Centring) -> jax.Array:
    """Centred probabilities, errors and truth, ``[B, 3, *cells]``."""
    truth = y - _as_planes(by.mean_y, y)
    return jnp.concatenate([centred(p, y, by), truth[:, None]], axis=1)


def _as_planes(values: jax.Array, planes: jax.Array) -> jax.Array:
    return values.reshape(-1, *[1] * (planes.ndim - 1))

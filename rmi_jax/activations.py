"""Logits to probabilities, with derivatives that keep their precision when saturated."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.labels import one_hot


@jax.custom_jvp
def sigmoid(logits: jax.Array) -> jax.Array:
    """Logistic sigmoid. Its derivative is not ``p (1 - p)``, which loses every digit near p = 1."""
    return jax.nn.sigmoid(logits)


@sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    return sigmoid(logits), tangent * sigmoid(logits) * sigmoid(-logits)


@jax.custom_jvp
def softplus(logits: jax.Array) -> jax.Array:
    """``log(1 + exp(l))``. Its derivative is computed as a sigmoid, without going through a log."""
    return jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    return softplus(logits), tangent * sigmoid(logits)


class LogTotal(NamedTuple):
    """``log(sum(exp(logits)))`` as two terms: added up, the rest would drown in a large logit."""

    largest: jax.Array
    rest: jax.Array


def log_total(logits: jax.Array) -> LogTotal:
    """The log of the sum of exponentials over the last axis.

    Only the rest has a derivative, and stands for both: what is computed from the two does not
    change when all logits are shifted.
    """
    largest = lax.stop_gradient(jnp.max(logits, axis=-1))
    return LogTotal(largest, _log_sum(logits, largest))


def normalized(logits: jax.Array, total: LogTotal) -> jax.Array:
    """Softmax probabilities of ``[..., K]`` logits, from the `log_total` of all of them."""
    largest, rest = (t[..., None] for t in total)
    return jnp.exp(logits - largest - rest)


@jax.custom_jvp
def _log_sum(logits: jax.Array, largest: jax.Array) -> jax.Array:
    return jnp.log(jnp.sum(jnp.exp(logits - largest[..., None]), axis=-1))


@_log_sum.defjvp
def _log_sum_jvp(primals, tangents):
    logits, largest = primals
    rest = _log_sum(logits, largest)
    # From the total, not from the terms of the sum: nothing of the size of the logits is kept.
    probs = normalized(logits, LogTotal(largest, rest))
    return rest, jnp.sum(probs * tangents[0], axis=-1)


@jax.custom_jvp
def softmax(logits: jax.Array) -> jax.Array:
    """Softmax over the last axis."""
    return jax.nn.softmax(logits, axis=-1)


@softmax.defjvp
def _softmax_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    probs = softmax(logits)
    # Softmax ignores a shift of all logits: measured from the winner, only small terms are summed.
    winner = one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
    tangent = tangent - jnp.sum(jnp.where(winner, tangent, 0), axis=-1, keepdims=True)
    return probs, probs * (tangent - jnp.sum(probs * tangent, axis=-1, keepdims=True))


ACTIVATIONS = {"sigmoid": sigmoid, "softmax": softmax, "identity": lambda probs: probs}

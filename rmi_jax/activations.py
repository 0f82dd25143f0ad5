"""Logits to probabilities, with derivatives that keep their precision when saturated."""

import jax
import jax.numpy as jnp


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


@jax.custom_jvp
def log_total(logits: jax.Array) -> jax.Array:
    """``log(sum(exp(logits)))`` over the last axis, ``[B, *S]``."""
    return jax.nn.logsumexp(logits, axis=-1)


@log_total.defjvp
def _log_total_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    total = log_total(logits)
    # From the total, not from the terms of the sum: nothing of the size of the logits is kept.
    return total, jnp.sum(jnp.exp(logits - total[..., None]) * tangent, axis=-1)


@jax.custom_jvp
def softmax(logits: jax.Array) -> jax.Array:
    """Softmax over the last axis."""
    return jax.nn.softmax(logits, axis=-1)


@softmax.defjvp
def _softmax_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    probs = softmax(logits)
    # Softmax ignores a shift of all logits: measured from the winner, only small terms are summed.
    classes = jnp.arange(logits.shape[-1])
    winner = classes == jnp.argmax(logits, axis=-1, keepdims=True)
    tangent = tangent - jnp.sum(jnp.where(winner, tangent, 0), axis=-1, keepdims=True)
    return probs, probs * (tangent - jnp.sum(probs * tangent, axis=-1, keepdims=True))


ACTIVATIONS = {"sigmoid": sigmoid, "softmax": softmax, "identity": lambda probs: probs}

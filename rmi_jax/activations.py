"""Logits to probabilities, with derivatives that keep their precision when saturated."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.labels import one_hot

_MOST_ADDITIONS = 64  # more are several passes over the maps


@jax.custom_jvp
def sigmoid(logits: jax.Array) -> jax.Array:
    """Logistic sigmoid. Its derivative is not ``p (1 - p)``, which loses every digit near p = 1."""
    return jax.nn.sigmoid(logits)


@sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    slope = _unless_nan(sigmoid(logits)) * _unless_nan(sigmoid(-logits))
    return sigmoid(logits), tangent * slope


@jax.custom_jvp
def softplus(logits: jax.Array) -> jax.Array:
    """``log(1 + exp(l))``. Its derivative is written as a sigmoid, which needs no log."""
    return jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    return softplus(logits), tangent * sigmoid(logits)


class LogTotal(NamedTuple):
    """``log(sum(exp(logits)))`` as two terms: their sum would round the small one away."""

    largest: jax.Array  # the largest logit
    log_sum: jax.Array  # log(sum(exp(logits - largest)))


@jax.custom_jvp
def log_total(logits: jax.Array) -> LogTotal:
    """The log of the sum of exponentials over the last axis.

    ``largest`` is a constant: with it held fixed, the derivative of ``log_sum`` is already that of
    the sum of the two.
    """
    # An accelerator waits for its memory: it reads the logits once.
    largest, total = lax.platform_dependent(logits, cpu=_in_two_passes, default=_in_one_pass)
    return LogTotal(largest, jnp.log(total))


@log_total.defjvp
def _log_total_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    total = log_total(logits)
    # Computed from the log-sum again, so that the backward pass keeps no array of exponentials.
    probs = _unless_nan(normalized(logits, total))
    return total, LogTotal(jnp.zeros_like(total.largest), jnp.sum(probs * tangent, axis=-1))


def _in_two_passes(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    largest = jnp.max(logits, axis=-1)
    return largest, jnp.sum(jnp.exp(logits - largest[..., None]), axis=-1)


def _in_one_pass(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    start = _lowest(logits), jnp.zeros((), logits.dtype)
    return lax.reduce((logits, jnp.ones_like(logits)), start, _joined, (logits.ndim - 1,))


def _joined(
    left: tuple[jax.Array, jax.Array], right: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Joins two largest logits, and two sums of exponentials relative to them."""
    # Not below the lowest finite number, for infinities have no difference.
    largest = jnp.maximum(jnp.maximum(left[0], right[0]), _lowest(left[0]))
    first, second = (total * jnp.exp(other - largest) for other, total in (left, right))
    return largest, first + second


def _lowest(logits: jax.Array) -> jax.Array:
    return jnp.asarray(jnp.finfo(logits.dtype).min, logits.dtype)


@jax.custom_jvp
def normalized(logits: jax.Array, total: LogTotal) -> jax.Array:
    """Softmax probabilities of ``[..., K]`` logits, from the `log_total` of all of them.

    ``total.largest`` is a constant, as it is there.
    """
    largest = lax.stop_gradient(total.largest)
    return jnp.exp(_less(logits - largest[..., None], total.log_sum))


@normalized.defjvp
def _normalized_jvp(primals, tangents):
    (logits, total), (of_logits, of_total) = primals, tangents
    probs = normalized(logits, total)
    _, tangent = jax.jvp(_less, (logits, total.log_sum), (of_logits, of_total.log_sum))
    return probs, _unless_nan(probs) * tangent


@jax.custom_jvp
def _less(logits: jax.Array, amount: jax.Array) -> jax.Array:
    """``amount`` less for all classes."""
    return logits - amount[..., None]


@_less.defjvp
def _less_jvp(primals, tangents):
    of_logits, of_amount = tangents
    classes = of_logits.shape[-1]

    def broadcast(tangent):
        return jnp.broadcast_to(tangent[..., None], of_logits.shape)

    def stack(tangent):
        return jnp.stack([tangent] * classes, axis=-1)

    # The transpose is a sum over the classes. On a TPU every class is a map of its own, and XLA's
    # reduction over maps is slower than what a stack has for its transpose, an addition a class.
    methods = {"tpu": stack} if 1 < classes <= _MOST_ADDITIONS else {}
    repeated = lax.platform_dependent(-of_amount, **methods, default=broadcast)
    return _less(*primals), of_logits + repeated


def _unless_nan(slope: jax.Array) -> jax.Array:
    """A derivative that is 0 where a logit is NaN, or infinite so that there is none.

    Of a pixel that counts, NaN is in the loss already. Of an ignored one the tangent is 0, and the
    product must be.
    """
    return jnp.where(jnp.isnan(slope), 0, slope)


@jax.custom_jvp
def softmax(logits: jax.Array) -> jax.Array:
    """Softmax over the last axis."""
    return jax.nn.softmax(logits, axis=-1)


@softmax.defjvp
def _softmax_jvp(primals, tangents):
    (logits,), (tangent,) = primals, tangents
    probs = softmax(logits)
    # A tangent that is the same for all classes changes nothing. With the winner's subtracted, the
    # sum below has only small terms where softmax is saturated.
    winner = one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
    tangent = tangent - jnp.sum(jnp.where(winner, tangent, 0), axis=-1, keepdims=True)
    return probs, probs * (tangent - jnp.sum(probs * tangent, axis=-1, keepdims=True))


ACTIVATIONS = {"sigmoid": sigmoid, "softmax": softmax, "identity": lambda probs: probs}

"""Activations and their derivatives, against float64, where they are saturated too."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from rmi_jax.activations import LogTotal, _joined, log_total, normalized, sigmoid, softmax, softplus

# The winner leads by up to 60: in float32 its probability is 1 from about 17 on.
LEADS = np.array([0, 3, 20, 60], "float32")
LOGITS = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
LOGITS[:, 2] = LOGITS.max(axis=1) + LEADS
DIRECTION = np.random.default_rng(1).normal(size=LOGITS.shape).astype("float32")


def softmax_of_total(logits):
    return normalized(logits, log_total(logits))


def test_the_sigmoid_keeps_its_derivative_where_it_is_near_1():
    logits = np.array([-40, -20, -3, 0, 3, 20, 40], "float32")
    small = np.exp(-np.abs(logits.astype("float64")))
    slopes = jax.vmap(jax.grad(sigmoid))(logits)
    np.testing.assert_allclose(slopes, small / (1 + small) ** 2, rtol=1e-5)


def test_the_softplus_and_its_derivative():
    logits = np.array([-40, -3, 0, 3, 40, 1e30], "float32")
    values, slopes = quick_jit(jax.vmap(jax.value_and_grad(softplus)))(logits)
    exact = logits.astype("float64")
    np.testing.assert_allclose(values, np.logaddexp(0, exact), rtol=1e-6)
    np.testing.assert_allclose(slopes, np.exp(-np.logaddexp(0, -exact)), rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "platform"),
    [(softmax, "cpu"), (softmax_of_total, "cpu"), (softmax_of_total, "tpu")],
)
def test_the_softmax_is_that_of_jax(function, platform, take_choices_of, x64):
    choices = take_choices_of(platform)
    logits, cotangent = LOGITS.astype("float64"), DIRECTION.astype("float64")

    def pulled(function):
        probs, pull = jax.vjp(function, logits)
        return probs, *pull(cotangent)

    expected = jax.jit(partial(pulled, jax.nn.softmax))()
    for found, exact in zip(quick_jit(partial(pulled, function))(), expected, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-14)
    # The sum of the exponentials, and that over the classes in the derivative.
    assert len(choices) == (2 if platform == "tpu" else 0)


def test_the_softmax_keeps_its_derivative_where_it_is_near_1():
    _, found = quick_jit(partial(jax.jvp, softmax))((LOGITS,), (DIRECTION,))
    logits, t = LOGITS.astype("float64"), DIRECTION.astype("float64")
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    # p_i (t_i - <p, t>), of near numbers, is the sum over j of p_i p_j (t_i - t_j).
    expected = np.einsum("bi,bj,bij->bi", p, p, t[:, :, None] - t[:, None, :])
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_the_log_total_of_an_accelerator(take_choices_of, x64):
    logits, cotangent = LOGITS.astype("float64"), jnp.asarray(DIRECTION[:, 0], "float64")

    def pulled(logits):
        total, pull = jax.vjp(log_total, logits)
        return *total, *pull(LogTotal(cotangent, cotangent))

    expected = quick_jit(pulled)(logits)
    choices = take_choices_of("tpu")
    found = quick_jit(lambda logits: pulled(logits))(logits)
    assert choices, "nothing was computed in another way"
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


def test_logits_of_minus_infinity_join_to_nothing():
    lost, one = jnp.asarray(-jnp.inf), jnp.asarray(1.0)
    largest, total = _joined((lost, one), (lost, one))
    assert jnp.isfinite(largest)
    assert total == 0
    np.testing.assert_array_equal(_joined((largest, total), (2 * one, one)), (2, 1))


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_the_log_total_of_the_largest_logits(platform, take_choices_of):
    choices = take_choices_of(platform)
    logits = [[1e30, -1e30, 1e30], [-1e30, 0, -1e30], [-np.inf, -np.inf, 2]]
    largest, log_sum = log_total(jnp.asarray(logits))
    assert bool(choices) == (platform == "tpu")
    np.testing.assert_array_equal(largest, np.asarray([1e30, 0, 2], "float32"))
    np.testing.assert_allclose(log_sum, [np.log(2), 0, 0], rtol=1e-6)

"""Cross entropy per image and class, and its gradient, against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from inputs import example

from rmi_jax.cross_entropy import cross_entropy

DATA = example(2)
SCALES = np.array([[1.0, 2, 3], [4, 5, 6]])  # of the cotangents, so that no two are the same


def by_hand(activation, targets, weights):
    """Values ``[B, C]``, and the gradient of their sum times `SCALES`."""
    logits, scales = DATA.logits, SCALES[:, None, None]
    share = (weights * len(logits) / (weights.sum() + 1))[..., None]
    if activation == "sigmoid":
        losses = np.logaddexp(0, logits) - targets * logits
        grad = scales * (1 / (1 + np.exp(-logits)) - targets)
    else:
        log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        losses = -targets * log_probs
        scaled = scales * targets
        grad = np.exp(log_probs) * scaled.sum(axis=-1, keepdims=True) - scaled
    return (share * losses).sum(axis=(1, 2)), share * grad


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", ["labels", "targets"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_values_and_gradients(activation, kind, platform, take_choices_of, x64):
    take_choices_of(platform)
    weights = DATA.weights
    targets = DATA.targets
    if kind == "labels":  # those that are no class weigh nothing, as the losses have it
        weights = np.where((DATA.labels >= 0) & (DATA.labels < 3), weights, 0)
        targets = np.float64(DATA.labels[..., None] == np.arange(3))

    @quick_jit
    @partial(jax.value_and_grad, has_aux=True)
    def run(logits):
        truth = jnp.asarray(getattr(DATA, kind))
        values = cross_entropy(logits, truth, jnp.asarray(weights), activation, None)
        return jnp.sum(SCALES * values), values

    (_, values), grad = run(DATA.logits)
    expected, expected_grad = by_hand(activation, targets, weights)
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    np.testing.assert_allclose(grad, expected_grad, atol=1e-12)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_what_an_ignored_pixel_holds_does_not_matter(activation, platform, take_choices_of):
    take_choices_of(platform)
    weights = DATA.weights.astype("float32")
    weights[0, 3:5], weights[1, 2, 2] = 0, 0
    labels = np.clip(DATA.labels, 0, 2)

    @quick_jit
    @jax.value_and_grad
    def run(logits):
        values = cross_entropy(logits, jnp.asarray(labels), jnp.asarray(weights), activation, None)
        return jnp.sum(SCALES * values)

    logits = DATA.logits.astype("float32")
    expected, expected_grad = run(logits)
    for held in (np.nan, np.inf, -np.inf):
        loss, grad = run(np.where(weights[..., None] == 0, np.float32(held), logits))
        np.testing.assert_array_equal(loss, expected)
        np.testing.assert_array_equal(grad, expected_grad)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_it_does_not_overflow_before_it_is_divided(activation):
    logits = np.full((2, 6, 5, 2), -1e38, "float32")
    logits[..., 1] = 1e38
    labels = np.zeros(logits.shape[:-1], "int32")  # all wrong
    run = quick_jit(partial(cross_entropy, activation=activation, axis_name=None))
    found = np.asarray(run(logits, labels, None), "float64")
    share = 60 / 61
    right = [2e38, 0] if activation == "softmax" else [1e38, 1e38]
    np.testing.assert_allclose(found, np.tile(right, (2, 1)) * share, rtol=1e-6)

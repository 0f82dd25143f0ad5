"""One contract: what every implementation does under JAX's transformations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import optimized_jit, quick_jit
from inputs import example
from tolerances import assert_grad, assert_value

import rmi_jax

DATA = example(2)
WEIGHTS = DATA.weights.astype("float32")
LOGITS = DATA.logits.astype("float32")
OPTIONS: dict[str, Any] = {"factor": 1, "region_size": 2}


@pytest.fixture
def loss_fn(implementation):
    def loss_fn(logits, labels=DATA.labels, where=WEIGHTS, anchor=0.1):
        return rmi_jax.rmi_loss(
            logits, labels, where=where, anchor=anchor, implementation=implementation, **OPTIONS
        )

    return loss_fn


def test_jit_equals_eager(loss_fn):
    run = jax.value_and_grad(loss_fn)
    check(run(LOGITS), optimized_jit(run)(LOGITS))


def test_remat(loss_fn):
    plain, remat = (quick_jit(jax.value_and_grad(f)) for f in (loss_fn, jax.checkpoint(loss_fn)))
    check(remat(LOGITS), plain(LOGITS))


def check(actual, expected):
    assert_value(actual[0], expected[0], "float32")
    assert_grad(actual[1], expected[1], "float32")


def test_vmap_equals_a_loop(loss_fn):
    many = [example(2, seed=seed) for seed in range(3)]
    stacked = [
        np.stack([getattr(data, name) for data in many]).astype(dtype)
        for name, dtype in (("logits", "float32"), ("labels", "int32"), ("weights", "float32"))
    ]
    run = jax.value_and_grad(loss_fn)
    losses, grads = quick_jit(jax.vmap(run))(*stacked)
    one = quick_jit(run)
    for i in range(3):
        loss, grad = one(*(array[i] for array in stacked))
        assert_value(losses[i], loss, "float32")
        assert_grad(grads[i], grad, "float32")


def test_vmap_over_part_of_the_arguments(loss_fn):
    labels = jnp.asarray(DATA.labels)
    stacked = np.stack([LOGITS, -LOGITS, 0.5 * LOGITS])
    masks = np.stack([DATA.weights, DATA.mask, np.ones_like(DATA.mask)]).astype("float32")
    one = quick_jit(loss_fn)
    losses = quick_jit(jax.vmap(loss_fn, in_axes=(0, None, None)))(stacked, labels, masks[0])
    assert_value(losses, [one(logits, labels, masks[0]) for logits in stacked], "float32")
    losses = quick_jit(jax.vmap(loss_fn, in_axes=(None, None, 0)))(LOGITS, labels, masks)
    assert_value(losses, [one(LOGITS, labels, mask) for mask in masks], "float32")


def test_vmap_over_anchors(loss_fn):
    anchors = np.array([0.0, 0.05, 10.0], "float32")

    def of_an_anchor(anchor):
        return jax.value_and_grad(loss_fn)(LOGITS, anchor=anchor)

    losses, grads = quick_jit(jax.vmap(of_an_anchor))(anchors)
    one = quick_jit(of_an_anchor)
    for i, anchor in enumerate(anchors):
        loss, grad = one(anchor)
        assert_value(losses[i], loss, "float32")
        assert_grad(grads[i], grad, "float32")
    assert np.all(np.diff(losses) != 0)


def test_scan_over_descent_steps(loss_fn):
    def step(logits, _):
        loss, grad = jax.value_and_grad(loss_fn)(logits)
        return logits - grad, loss

    steps = 4
    end, losses = quick_jit(lambda logits: jax.lax.scan(step, logits, length=steps))(LOGITS)
    logits, one = LOGITS, quick_jit(step)
    for i in range(steps):
        logits, loss = one(logits, None)
        assert_value(losses[i], loss, "float32")
    assert_grad(end - LOGITS, logits - LOGITS, "float32")
    assert losses[-1] < losses[0]


def test_the_options_may_be_traced(implementation):
    def loss_fn(bce_weight, rmi_weight, jitter, anchor, class_weights, scale_weights):
        return rmi_jax.rmi_loss(
            LOGITS,
            DATA.labels,
            bce_weight=bce_weight,
            rmi_weight=rmi_weight,
            jitter=jitter,
            anchor=anchor,
            class_weights=class_weights,
            factor=(1, 2),
            scale_weights=scale_weights,
            region_size=2,
            implementation=implementation,
        )

    options = (
        0.3,
        0.4,
        1e-3,
        0.2,
        np.array([1.0, 2.0, 0.5], "float32"),
        np.array([0.6, 0.1], "float32"),
    )
    static = quick_jit(lambda: loss_fn(*options))
    assert_value(quick_jit(loss_fn)(*options), static(), "float32")


def test_the_gradient_by_soft_targets_is_a_finite_difference(implementation, x64):
    rng = np.random.default_rng(0)
    direction = rng.normal(size=DATA.targets.shape)
    inside = np.clip(DATA.targets, 1e-3, 1 - 1e-3)

    def loss_fn(targets):
        return rmi_jax.soft_rmi_loss(DATA.logits, targets, implementation=implementation, **OPTIONS)

    run = quick_jit(jax.value_and_grad(loss_fn))
    step = 1e-5
    (ahead, _), (behind, _) = run(inside + step * direction), run(inside - step * direction)
    slope = np.sum(run(inside)[1] * direction)
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6)

"""Forward mode and higher derivatives: the readable reference has them, streaming says it has not.

Transformations that both implementations support are in `conformance/test_transforms.py`.
"""

import jax
import numpy as np
import pytest
from compiling import quick_jit
from inputs import example

import rmi_jax

DATA = example(2)
OPTIONS = {"factor": 1, "region_size": 2, "anchor": 0.3}


@pytest.fixture
def directions():
    return np.random.default_rng(0).normal(size=(2, *DATA.logits.shape))


def patches_loss(logits):
    return rmi_jax.rmi_loss(logits, DATA.labels, implementation="patches", **OPTIONS)


def test_forward_mode_agrees_with_reverse_mode(directions, x64):
    grad = quick_jit(jax.grad(patches_loss))(DATA.logits)
    _, tangent = quick_jit(lambda u: jax.jvp(patches_loss, (DATA.logits,), (u,)))(directions[0])
    np.testing.assert_allclose(tangent, np.sum(grad * directions[0]), rtol=1e-9)


def test_hessian_vector_products(directions, x64):
    @quick_jit
    def hvp(direction):
        return jax.jvp(jax.grad(patches_loss), (DATA.logits,), (direction,))[1]

    u, v = directions
    hu, hv = hvp(u), hvp(v)
    np.testing.assert_allclose(np.sum(v * hu), np.sum(u * hv), rtol=1e-8)
    step = 1e-5
    grad = quick_jit(jax.grad(patches_loss))
    difference = (grad(DATA.logits + step * u) - grad(DATA.logits - step * u)) / (2 * step)
    assert np.linalg.norm(hu - difference) <= 1e-5 * np.linalg.norm(difference)


def test_streaming_refuses_forward_mode(directions):
    def loss_fn(logits):
        return rmi_jax.rmi_loss(logits, DATA.labels, implementation="streaming", **OPTIONS)

    primal, tangent = DATA.logits.astype("float32"), directions[0].astype("float32")
    with pytest.raises(TypeError, match="forward-mode"):
        quick_jit(lambda u: jax.jvp(loss_fn, (primal,), (u,)))(tangent)

"""The warm-up: exactly 1 at first, then monotonically down to the final weight."""

import jax
import numpy as np
import pytest

import rmi_jax


@pytest.mark.parametrize(("warmup", "transition", "final"), [(0, 1, 0.0), (7, 5, 0.3), (3, 9, 1)])
def test_warmup_schedule(warmup, transition, final):
    schedule = rmi_jax.warmup_schedule(warmup, transition, final_weight=final)
    steps = np.arange(warmup + transition + 3)
    weights = np.asarray([schedule(int(step)) for step in steps])
    # Not close to 1 but 1: at any other weight the RMI work is done.
    assert np.all(weights[: warmup + 1] == 1)
    assert np.all(np.diff(weights) <= 0)
    assert np.all((weights >= 0) & (weights <= 1))
    np.testing.assert_allclose(weights[warmup + transition :], final, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(steps), weights, rtol=1e-6)

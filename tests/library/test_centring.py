"""Means, moments and slopes of weighted planes, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from rmi_jax import centring
from rmi_jax.gaussian import Prior
from rmi_jax.geometry import Halo

RNG = np.random.default_rng(0)
P = 0.2 + RNG.normal(size=(3, 8, 5))
Y = 5 + 0.5 * P + RNG.normal(size=P.shape)
WEIGHTS = RNG.choice([0, 1, 2], size=P.shape).astype("float64")
WEIGHTS[2] = 0  # an image that is ignored


def expected_spread():
    total = np.maximum(WEIGHTS.sum(axis=(1, 2)), 1)
    mean_p, mean_y = ((WEIGHTS * m).sum(axis=(1, 2)) / total for m in (P, Y))
    p, y = P - mean_p[:, None, None], Y - mean_y[:, None, None]
    return (
        mean_p,
        mean_y,
        *((WEIGHTS * a * b).sum(axis=(1, 2)) for a, b in ((p, p), (y, p), (y, y))),
    )


def test_spread(x64):
    found = quick_jit(centring.spread)(P, Y, WEIGHTS)
    np.testing.assert_allclose(found, expected_spread(), rtol=1e-12)


def test_spread_of_parts_that_devices_hold(x64):
    """Two devices have four rows of each image; one of them may have nothing that counts."""
    weights = WEIGHTS.copy()
    weights[0, :4] = 0

    def part(p, y, weights):
        halo = Halo("rows", 4, 0, 0)
        slots = jax.tree.map(lambda part: part[None], centring.spread(p, y, weights))
        return centring.combined(slots, weights, halo)

    parts = (np.stack(np.split(maps, 2, axis=1)) for maps in (P, Y, weights))
    found = quick_jit(jax.vmap(part, axis_name="rows"))(*parts)
    whole = quick_jit(centring.spread)(P, Y, weights)
    for both, expected in zip(found, whole, strict=True):
        np.testing.assert_allclose(both, np.broadcast_to(expected, (2, 1, 3)), rtol=1e-12)


@pytest.mark.parametrize("anchor", [0.0, 0.3])
def test_the_slope_leaves_errors_that_the_prediction_does_not_explain(anchor, x64):
    # Of the sample and, for an anchor, of copies of the truth as its own prediction.
    prior = Prior(jnp.asarray(0.0), jnp.asarray(anchor))

    @quick_jit
    def run(p, y, weights):
        by = centring.make_centring(centring.spread(p, y, weights), prior)
        return centring.centred(p, y, by), by

    planes, by = run(P, Y, WEIGHTS)
    p, d = np.moveaxis(np.asarray(planes), 1, 0)[:, :2]
    slope = np.asarray(by.slope)[:2, None, None]
    y, weights = slope * p + d, WEIGHTS[:2]
    np.testing.assert_allclose((weights * p).sum(axis=(1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose((weights * d).sum(axis=(1, 2)), 0, atol=1e-12)
    explained = weights * (p * d + anchor * y * (1 - slope) * y)
    np.testing.assert_allclose(explained.sum(axis=(1, 2)), 0, atol=1e-11)

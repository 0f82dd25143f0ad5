"""Regions are copies of what is on the map, class by class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from windows import windows

import rmi_jax

CASES = {
    1: ((2, 11, 3), (3,), (2,), (2,)),
    2: ((2, 9, 8, 3), (3, 2), (1, 3), (2, 1)),
    3: ((2, 6, 7, 8, 2), (2, 3, 2), (1, 2, 3), (1, 2, 3)),
}


@pytest.mark.parametrize("ndim", CASES)
def test_regions_are_exact_copies(ndim):
    shape, size, dilation, stride = CASES[ndim]
    maps = np.random.default_rng(0).normal(size=shape).astype("float32")

    @jax.jit
    def extract(maps):
        return rmi_jax.extract_regions(maps, size, dilation=dilation, stride=stride)

    expected = windows(maps, size, dilation, stride)
    np.testing.assert_array_equal(extract(maps), expected)
    # The adjoint: <regions(u), v> = <u, adjoint(v)>.
    weights = np.random.default_rng(1).normal(size=expected.shape).astype("float32")
    grad = jax.jit(jax.grad(lambda maps: jnp.vdot(extract(maps), weights)))(maps)
    np.testing.assert_allclose(np.vdot(grad, maps), np.vdot(expected, weights), rtol=1e-4)

    # NaN reaches the regions that overlap it, in its own class.
    bad = maps.copy()
    bad[(0, *dilation, 0)] = np.nan  # the second neighbour, along each axis, of the first region
    found = np.isnan(extract(bad))
    touched = np.isnan(windows(bad, size, dilation, stride))
    assert found.any()
    np.testing.assert_array_equal(found, found & touched.any(axis=-2, keepdims=True))

"""Region statistics and their gradient, strip by strip, against regions written down in NumPy."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from tolerances import assert_value
from windows import region_columns

from rmi_jax import region_gradients, region_sums, strips
from rmi_jax.geometry import Regions

# Cells, regions, and positions: in strips of 3 rows the last one shares some with the one before.
CASES = {
    "plane": ((10, 6), Regions((3, 2), (1, 2), (1, 1)), (8, 4)),
    "thinned": ((16, 7), Regions((2, 2), (2, 1), (2, 3)), (7, 2)),
    "signal": ((20,), Regions((3,), (2,), (1,)), (16,)),
}


def shorten(monkeypatch, rows, row_bytes):
    """Has strips of so many rows on every platform."""
    for platform in ("cpu", "tpu"):
        monkeypatch.setitem(strips._STRIP_BYTES, platform, rows * row_bytes)
    monkeypatch.setattr(strips, "_STRIP_BYTES_ACCELERATOR", rows * row_bytes)


@pytest.fixture(params=["cpu", "tpu", "cuda"])
def platform(request, take_choices_of):
    take_choices_of(request.param)


@pytest.fixture(params=CASES)
def problem(request, platform, monkeypatch, x64):
    """Maps ``[B, 2, *cells]``, weights, regions, and the columns z in NumPy."""
    cells, regions, positions = CASES[request.param]
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 2, *cells))
    weights = rng.choice([0, 0.5, 1, 3.7], size=(2, *positions))
    # Of the first strip all; of the signal, the last strip as well, whose first rows do not count.
    weights[:, : positions[0] if request.param == "signal" else positions[0] // 2] = 1
    shorten(monkeypatch, 3, 2 * regions.dim * 2 * int(np.prod(positions[1:])) * 8)
    z = region_columns(maps, regions)
    return maps, weights, regions, z


def test_moments(problem):
    maps, weights, regions, z = problem
    w = weights.reshape(2, 1, -1)
    rng = np.random.default_rng(1)
    three = np.concatenate([maps, rng.normal(size=(2, 1, *maps.shape[2:]))], axis=1)
    of_three = region_columns(three, regions)
    mean = rng.normal(size=of_three.shape[:2])
    matrices = [rng.normal(size=(2, rows, of_three.shape[1])) for rows in (3, 2)]

    @quick_jit
    def run(maps, three, weights):
        sweep = strips.plan(weights, regions)
        of = region_sums.moments_of(three, sweep, *map(jnp.asarray, (mean, *matrices)))
        return [region_sums.moments(maps, sweep), *of]

    columns = [matrix @ (of_three - mean[..., None]) for matrix in matrices]
    for found, x in zip(run(maps, three, weights), (z, *columns), strict=True):
        assert_value(found.first, np.sum(w * x, axis=2), "float64")
        assert_value(found.second, (w * x) @ np.swapaxes(x, 1, 2), "float64")


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_gradient_is_the_transpose_of_taking_regions(outputs, problem):
    """``<pulled back, u> = sum of w <regions of u, matrix z - shift>`` for all u."""
    maps, weights, regions, z = problem
    rng = np.random.default_rng(2)
    rows = outputs * regions.dim
    matrix = rng.normal(size=(2, rows, z.shape[1]))
    shift = rng.normal(size=(2, rows))
    u = rng.normal(size=(2, outputs, *maps.shape[2:]))
    of_u = region_columns(u, regions)

    @quick_jit
    def run(maps, weights, *linear):
        sweep = strips.plan(weights, regions)
        return region_gradients.pull_back(maps, sweep, *linear)

    gradient = run(maps, weights, *map(jnp.asarray, (matrix, shift)))
    pulled = matrix @ z - shift[..., None]
    expected = np.sum(weights.reshape(2, 1, -1) * of_u * pulled, axis=(1, 2))
    found = np.sum((u * gradient).reshape(2, -1), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_products_in_parts_are_those_of_the_joined_columns(x64):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(2, rows, 7)) for rows in (3, 2, 4, 1)]
    z = np.concatenate(parts, axis=1)
    for platform in ("tpu", "gpu"):
        found = quick_jit(partial(region_sums._products, platform))(parts)
        np.testing.assert_allclose(found, z @ np.swapaxes(z, 1, 2), rtol=1e-12)

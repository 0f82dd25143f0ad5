"""Downsampling of odd sides, masked and not, against the oracle's taps; means on a TPU."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from compiling import quick_jit

import rmi_jax
from rmi_jax.downsampling import METHODS, cell_counts

# Sides that factors divide, and sides that leave a rest before and behind.
CASES = {
    "signal": ((2, 11, 2), (4,)),
    "odd factor": ((2, 10, 2), (3,)),
    "plane": ((2, 9, 8, 2), (2, 3)),
    "volume": ((1, 5, 6, 7, 2), (2, 1, 3)),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_cells_are_what_their_taps_say(case, masked, x64):
    shape, factors = CASES[case]
    rng = np.random.default_rng(0)
    maps = rng.normal(size=shape)
    where = rng.uniform(size=shape[:-1]) < 0.5 if masked else None

    @quick_jit
    def run(maps):
        return {m: rmi_jax.downsample(maps, factors, method=m, where=where) for m in METHODS}

    for method, found in run(maps).items():
        assert found.shape[1:-1] == cell_counts(shape[1:-1], factors, method)
        for b, c in np.ndindex(shape[0], shape[-1]):
            valid = None if where is None else where[b]
            taps = oracle.downsampling_taps(maps[b, ..., c], factors, method, valid)
            expected = oracle.apply_taps(maps[b, ..., c], taps).astype("float64")
            np.testing.assert_allclose(found[b, ..., c], expected, atol=1e-12, err_msg=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1, 2])
def test_arrays_of_numpy_become_those_of_jax(method, factor):
    maps = np.random.default_rng(0).normal(size=(1, 6, 4, 2))
    cells = rmi_jax.downsample(maps, factor, method=method, where=np.ones((1, 6, 4), bool))
    assert isinstance(cells, jax.Array)
    assert cells.dtype == jnp.asarray(maps).dtype


def test_a_maximum_is_that_of_the_valid_pixels():
    maps = np.array([[-3.0, -1.0, 5.0, -2.0, 4.0, 7.0]], "float32")[..., None]
    where = np.array([[True, True, False, False, False, True]])
    cells = rmi_jax.downsample(jnp.asarray(maps), 2, method="max", where=jnp.asarray(where))
    # Windows start one pixel outside; one without valid pixels is 0.
    np.testing.assert_array_equal(cells[0, :, 0], [-3, -1, 0, 7])


@pytest.mark.parametrize("case", CASES)
def test_the_means_of_a_tpu_and_their_derivatives(case, take_choices_of, x64):
    """Products there: of a linear map, the map itself, and its transpose."""
    shape, factors = CASES[case]
    rng = np.random.default_rng(0)
    maps, tangent = rng.normal(size=(2, *shape))

    def means(maps):
        return rmi_jax.downsample(maps, factors)

    expected = quick_jit(means)(maps), quick_jit(means)(tangent)
    choices = take_choices_of("tpu")

    @quick_jit
    def run(maps, tangent):
        cells, moved = jax.jvp(means, (maps,), (tangent,))
        (pulled,) = jax.vjp(means, maps)[1](cells)
        return cells, moved, pulled

    cells, moved, pulled = run(maps, tangent)
    assert choices, "nothing was computed in another way"
    np.testing.assert_allclose(cells, expected[0], atol=1e-12)
    np.testing.assert_allclose(moved, expected[1], atol=1e-12)
    np.testing.assert_allclose(np.sum(pulled * tangent), np.sum(cells * expected[1]), rtol=1e-11)

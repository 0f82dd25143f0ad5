"""From pixels to cells and region positions, against the oracle's taps and NumPy."""

from functools import partial

import numpy as np
import oracle
import pytest
from compiling import quick_jit
from inputs import example
from windows import windows

from rmi_jax.cells import cell_probs, cell_targets, cell_weights, position_weights, shift_grid
from rmi_jax.geometry import Regions, Scale

DATA = example(2)
REGIONS = Regions((3, 2), (1, 2), (2, 1))
FACTORS = (2, 3)


def scale_of(ignored, downsampling="avg"):
    return Scale("identity", FACTORS, downsampling, ignored, REGIONS)


def cells_by_hand(maps, method, valid=(None, None)):
    """Every image and class of ``[B, *S, C]`` by itself."""

    def plane(b, c):
        taps = oracle.downsampling_taps(maps[b, ..., c], FACTORS, method, valid[b])
        return oracle.apply_taps(maps[b, ..., c], taps).astype("float64")

    batch, classes = range(len(maps)), range(maps.shape[-1])
    return np.stack([np.stack([plane(b, c) for c in classes], -1) for b in batch])


@pytest.mark.parametrize("downsampling", ["avg", "max", "interpolate"])
@pytest.mark.parametrize("ignored", ["exclude", "zero"])
def test_cells_of_maps(ignored, downsampling, x64):
    @quick_jit
    def run(probs, targets, weights):
        scale = scale_of(ignored, downsampling)
        return cell_probs(probs, weights, scale), cell_targets(targets, weights, scale)

    probs, targets, valid = DATA.probs, DATA.targets, (None, None)
    if ignored == "zero":  # as the authors have it
        inside = (DATA.weights > 0)[..., None]
        probs, targets = probs * inside + 1e-6, targets * inside
    else:
        valid = DATA.weights > 0
    nearest = "nearest" if downsampling == "interpolate" else downsampling
    found = run(DATA.probs, DATA.targets, DATA.weights)
    for cells, maps, method in zip(found, (probs, targets), (downsampling, nearest), strict=True):
        np.testing.assert_allclose(cells, cells_by_hand(maps, method, valid), atol=1e-12)


@pytest.mark.parametrize("downsampling", ["avg", "max", "interpolate"])
def test_cells_weigh_as_their_valid_pixels(downsampling, x64):
    # Half of the pixels are ignored, so that cells without any are found.
    weights = np.where(np.random.default_rng(0).uniform(size=DATA.weights.shape) < 0.5, 0, 1.5)
    weights *= DATA.weights
    method = "nearest" if downsampling == "interpolate" else "avg"
    expected = cells_by_hand(weights[..., None], method, weights > 0)
    if downsampling == "interpolate":
        read = cells_by_hand((weights > 0)[..., None].astype("float64"), "interpolate")
        assert np.any((read == 0) & (expected > 0))
        expected = np.where(read > 0, expected, 0)
    assert np.any(expected == 0)
    found = quick_jit(partial(cell_weights, scale=scale_of("exclude", downsampling)))(weights)
    np.testing.assert_allclose(found, expected[..., 0], atol=1e-12)


def test_a_region_weighs_as_its_lightest_cell():
    cells = np.random.default_rng(0).uniform(size=(2, 9, 8)).astype("float32")
    found = quick_jit(partial(position_weights, regions=REGIONS))(cells)
    expected = windows(cells[..., None], *REGIONS).min(axis=-2)[..., 0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("offset", [(0, 0), (1, 0), (1, 2)])
def test_the_grid_moves_and_leaves_zeros_behind(offset):
    maps = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype("float32")
    regions = REGIONS._replace(stride=(2, 3))
    found = quick_jit(partial(shift_grid, regions=regions))(maps, np.asarray(offset))
    down, right = offset
    expected = np.zeros_like(maps)
    expected[:, : 7 - down, : 6 - right] = maps[:, down:, right:]
    np.testing.assert_array_equal(found, expected)

"""The components of regions, against regions written down in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from windows import region_columns

from rmi_jax.components import by_component, by_map, components
from rmi_jax.geometry import Regions

CASES = {
    "signal": ((13,), Regions((3,), (2,), (2,))),
    "plane": ((9, 8), Regions((3, 2), (1, 3), (2, 1))),
    "volume": ((6, 5, 7), Regions((2, 1, 3), (2, 1, 1), (1, 2, 3))),
}


@pytest.mark.parametrize("case", CASES)
def test_components_of_every_region(case, x64):
    cells, regions = CASES[case]
    maps = np.random.default_rng(0).normal(size=(2, 3, *cells))

    @quick_jit
    def run(maps):
        rows = jnp.concatenate(components(maps, regions), axis=1)
        return by_map(rows.reshape(*rows.shape[:2], -1), 3, 1)

    np.testing.assert_allclose(run(maps), region_columns(maps, regions), atol=1e-13)


def test_orders_of_rows_are_inverse():
    by_maps = jnp.asarray([[10, 11, 12, 20, 21, 22]])  # two maps of three components
    by_components = by_component(by_maps, 2, -1)
    np.testing.assert_array_equal(by_components, [[10, 20, 11, 21, 12, 22]])
    np.testing.assert_array_equal(by_map(by_components, 2, -1), by_maps)

"""Regions: the small windows whose joint statistics RMI compares, and their orthonormal basis."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rmi_jax import checks
from rmi_jax.geometry import Regions


def extract_regions(
    maps: jax.Array,
    region_size: int | Sequence[int],
    *,
    dilation: int | Sequence[int] = 1,
    stride: int | Sequence[int] = 1,
) -> jax.Array:
    """Extracts every region that lies wholly on the map ("VALID" windows).

    Args:
      maps: floating-point maps ``[B, *S, C]`` with 1, 2 or 3 spatial axes.
      region_size: cells along each side of a region, an int or one per spatial axis.
      dilation: distance in cells between neighbours within a region.
      stride: distance in cells between the positions of consecutive regions.

    Returns:
      ``[B, *positions, d, C]`` in the dtype of ``maps``, where ``d`` is the product of
      ``region_size`` and a region's cells are in row-major order. Finite values are copied
      exactly on every device; a NaN or infinity spreads to the regions that overlap it.

    Raises:
      TypeError: if ``maps`` is not floating point, or an option is not an int.
      ValueError: if ``maps`` has no 1 to 3 spatial axes, or a region does not fit on it.
    """
    checks.floating("maps", maps)
    ndim = checks.spatial_ndim("maps", maps)
    regions = Regions(
        checks.per_axis("region_size", region_size, ndim),
        checks.per_axis("dilation", dilation, ndim),
        checks.per_axis("stride", stride, ndim),
    )
    checks.regions_fit(regions.span, maps.shape[1:-1], "maps")
    spatial = "HWD"[:ndim]
    patches = lax.conv_general_dilated_patches(
        maps,
        filter_shape=regions.size,
        window_strides=regions.stride,
        padding="VALID",
        rhs_dilation=regions.dilation,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        # Patches come from a convolution: any lower precision would round the values themselves.
        precision=lax.Precision.HIGHEST,
    )
    channels = maps.shape[-1]
    return jnp.swapaxes(patches.reshape(*patches.shape[:-1], channels, regions.dim), -1, -2)


def dct_matrix(size: int) -> np.ndarray:
    """Orthonormal DCT-II of ``size`` points, ``[size, size]`` float64, row k the k-th component."""
    k, x = np.arange(size)[:, None], np.arange(size)[None, :]
    basis = np.sqrt(2 / size) * np.cos(np.pi * k * (2 * x + 1) / (2 * size))
    basis[0] = np.sqrt(1 / size)
    return np.where(np.abs(basis) < 1e-12, 0, basis)


def region_basis(size: Sequence[int]) -> np.ndarray:
    """Orthonormal basis of a region, ``[d, d]`` float64: component 0 is its mean times sqrt(d)."""
    basis = np.ones((1, 1))
    for side in size:
        basis = np.kron(basis, dct_matrix(side))
    return basis

"""Regions: the small windows whose joint statistics RMI compares, and their orthonormal basis."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rmi_jax import checks
from rmi_jax.dtypes import Array
from rmi_jax.geometry import Regions


def extract_regions(
    maps: Array,
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
    ndim = checks.floating_maps("maps", maps)
    regions = Regions(
        checks.per_axis("region_size", region_size, ndim),
        checks.per_axis("dilation", dilation, ndim),
        checks.per_axis("stride", stride, ndim),
    )
    remedy = "a larger map or a smaller region"
    checks.regions_fit(regions.span, maps.shape[1:-1], "maps have", remedy)
    if ndim == 3:
        return _volume_regions(maps, regions)
    if ndim == 2:
        return jnp.swapaxes(_planar_regions(maps, regions), -1, -2)
    row = _planar_regions(maps[:, None], Regions(*((1, *option) for option in regions)))
    return jnp.swapaxes(row[:, 0], -1, -2)


def _volume_regions(maps: Array, regions: Regions) -> jax.Array:
    """Regions of ``[B, D, H, W, C]`` in two planar steps: the compiler is slow at three axes."""
    batch, depth, height, width, channels = maps.shape
    *slices, columns = regions.positions((depth, height, width))
    lines = maps.reshape(batch, depth * height, width, channels)
    lines = _planar_regions(lines, Regions(*((1, option[2]) for option in regions)))
    # One axis at a time: a sharded batch allows no reshape that both merges and splits.
    lines = lax.collapse(lines, 2).reshape(batch, depth, height, -1)
    patches = _planar_regions(lines, Regions(*(option[:2] for option in regions)))
    patches = patches.reshape(batch, *slices, columns, channels, regions.size[2], -1)
    return lax.collapse(jnp.moveaxis(patches, (-1, -2, -3), (-3, -2, -1)), 4, 6)


def _planar_regions(maps: Array, regions: Regions) -> jax.Array:
    """Regions of ``[B, H, W, C]``, ``[B, rows, columns, C, d]``."""
    batch, height, width, channels = maps.shape
    rows, columns = regions.positions((height, width))
    # Classes are folded into the last axis. As groups of the convolution, which XLA's partitioner
    # cannot transpose, they would have the regions of a sharded batch gathered.
    patches = lax.conv_general_dilated_patches(
        lax.expand_dims(maps.reshape(batch, height, width * channels), (3,)),
        filter_shape=regions.size,
        window_strides=(regions.stride[0], 1),
        padding="VALID",
        rhs_dilation=(regions.dilation[0], regions.dilation[1] * channels),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        # A convolution copies the values; at a lower precision it would round them.
        precision=lax.Precision.HIGHEST,
    )
    patches = patches.reshape(batch, rows, -1, channels, regions.dim)
    return patches[:, :, :: regions.stride[1]]


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

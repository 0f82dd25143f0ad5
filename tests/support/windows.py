"""Every region of a map, written down in NumPy."""

import numpy as np

from rmi_jax.regions import region_basis


def windows(maps, size, dilation, stride):
    """The regions of ``[B, *S, C]``, ``[B, *positions, d, C]``."""
    counts = [
        (n - (k - 1) * g - 1) // s + 1
        for n, k, g, s in zip(maps.shape[1:-1], size, dilation, stride, strict=True)
    ]
    cells = []
    for cell in np.ndindex(*size):
        taps = tuple(
            slice(i * g, i * g + (n - 1) * s + 1, s)
            for i, g, n, s in zip(cell, dilation, counts, stride, strict=True)
        )
        cells.append(maps[(slice(None), *taps)])
    return np.stack(cells, axis=-2)


def region_columns(maps, regions):
    """The regions of ``[B, m, *cells]`` as the engine has them, ``[B, m d, n]``.

    That is map by map and in their orthonormal basis, whose last axis varies slowest.
    """
    ndim = len(regions.size)
    basis = region_basis(regions.size).reshape(*regions.size, -1)
    basis = basis.transpose(*reversed(range(ndim)), ndim).reshape(regions.dim, -1)
    found = windows(np.moveaxis(maps, 1, -1), *regions)
    found = np.einsum("cd,b...dm->bmc...", basis, found)
    return found.reshape(len(maps), maps.shape[1] * regions.dim, -1)

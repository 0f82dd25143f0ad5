"""Options of the RMI term: checked, and expanded into what one scale after the other reads."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from rmi_jax import checks, concrete, halo, mesh, ranges
from rmi_jax.downsampling import cell_counts
from rmi_jax.dtypes import Array, is_real
from rmi_jax.gaussian import Prior
from rmi_jax.geometry import Regions, Scale

Factor = int | Sequence[int | Sequence[int]]
IMPLEMENTATIONS = ("streaming", "patches")  # the first is the default
SMALLEST_JITTER = 1e-12  # smaller ones drown in rounding; float32 does better with 1e-5 or more
LARGEST_ANCHOR = 1e6  # here the regression matrix W is already the identity in float32
# Pixel weight times number of pixels. With more, the smallest jitter is lost to rounding.
LARGEST_WEIGHT = 1e12


class RegionOptions(NamedTuple):
    """How the RMI term is computed."""

    scales: tuple[Scale, ...]
    scale_weights: jax.Array  # [number of scales]
    prior: Prior  # jitter alpha and anchor tau
    offset: jax.Array | None  # [N] shift of the grid of region positions
    implementation: str

    @property
    def spatial_axis_name(self) -> str | None:
        """Mesh axis that shards the rows of the images."""
        shared = self.scales[0].halo
        return None if shared is None else shared.axis_name


def region_options(
    shape: Sequence[int],
    dtype: jnp.dtype,
    *,
    activation: str,
    region_size: int | Sequence[int],
    dilation: int | Sequence[int],
    factor: Factor,
    scale_weights: Sequence[float] | Array | None,
    downsampling: str,
    jitter: ArrayLike,
    anchor: ArrayLike = 0.0,
    ignored: str,
    region_stride: int | Sequence[int],
    region_key: Array | None,
    spatial_axis_name: str | None,
    implementation: str | None,
) -> RegionOptions:
    """Checks the options of the RMI term against maps of ``shape`` ``[B, *S, C]``; expands them."""
    rows, *others = shape[1:-1]
    devices = (
        1 if spatial_axis_name is None else mesh.axis_size("spatial_axis_name", spatial_axis_name)
    )
    spatial = (devices * rows, *others)
    ndim = len(spatial)
    checks.one_of("downsampling", downsampling, ("avg", "max", "interpolate"))
    checks.one_of("ignored", ignored, ("exclude", "zero"))
    ranges.scalar("jitter", jitter, least=SMALLEST_JITTER)
    ranges.scalar("anchor", anchor, most=LARGEST_ANCHOR)
    implementation = IMPLEMENTATIONS[0] if implementation is None else implementation
    checks.one_of("implementation", implementation, IMPLEMENTATIONS)
    regions = Regions(
        checks.per_axis("region_size", region_size, ndim),
        checks.per_axis("dilation", dilation, ndim),
        checks.per_axis("region_stride", region_stride, ndim),
    )
    scales = []
    for factors in _factors(factor, ndim):
        checks.cells_left(spatial, factors, downsampling)
        cells = cell_counts(spatial, factors, downsampling)
        there_are = f"factor {factors} of a {spatial} map leaves"
        remedy = "a larger map, a smaller factor or a smaller region"
        checks.regions_fit(regions.span, cells, there_are, remedy)
        scales.append(Scale(activation, factors, downsampling, ignored, regions))
    if spatial_axis_name is not None:
        shared = halo.make_halo(spatial_axis_name, rows, tuple(scales))
        scales = [scale._replace(halo=shared) for scale in scales]
    offset = None
    if region_key is not None:
        checks.key("region_key", region_key)
        offset = jax.random.randint(region_key, (ndim,), 0, np.asarray(regions.stride))
    return RegionOptions(
        tuple(scales),
        _scale_weights(scale_weights, len(scales), dtype),
        lax.stop_gradient(Prior(jnp.asarray(jitter, dtype), jnp.asarray(anchor, dtype))),
        offset,
        implementation,
    )


def read_where(where: Array | None, shape: Sequence[int], dtype: jnp.dtype) -> jax.Array | None:
    """Pixel weights of ``shape`` ``[B, *S]``, without a gradient, from a mask or weights."""
    if where is None:
        return None
    checks.array("where", where)
    if not (where.dtype == bool or is_real(where.dtype)):
        raise TypeError(f"where must be a boolean mask or real weights, got {where.dtype}")
    checks.shape("where", where, shape, "[batch, *spatial]")
    ranges.nonnegative("where", where)
    known = concrete.values(where)
    if known is not None and float(known.max()) * known.size > LARGEST_WEIGHT:
        raise ValueError(
            f"where must be at most {LARGEST_WEIGHT:g} / {known.size} pixels, got values up to "
            f"{float(known.max())}; divide it by its mean"
        )
    return lax.stop_gradient(jnp.asarray(where, dtype))


def _factors(factor: Factor, ndim: int) -> list[tuple[int, ...]]:
    if not checks.is_sequence(factor):
        return [checks.per_axis("factor", factor, ndim)]
    if len(factor) == 0:
        raise ValueError("factor must name at least one scale, got an empty sequence; use 1")
    return [checks.per_axis("factor", entry, ndim) for entry in factor]


def _scale_weights(scale_weights, scales: int, dtype: jnp.dtype) -> jax.Array:
    if scale_weights is None:
        decay = 0.5 ** np.arange(scales)
        return jnp.asarray(decay / decay.sum(), dtype)
    ranges.vector("scale_weights", scale_weights, scales, "one per scale in factor")
    return jnp.asarray(scale_weights, dtype)

"""The options that the public functions share: checked, expanded, then passed as one value."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rmi_jax import array_checks, checks, halo, patches, streaming
from rmi_jax.downsampling import cell_counts
from rmi_jax.dtypes import compute_dtype
from rmi_jax.gaussian import Prior, Terms
from rmi_jax.geometry import Maps, Regions, Scale

Factor = int | Sequence[int | Sequence[int]]
IMPLEMENTATIONS: dict[str, Callable[[Maps, Prior, tuple[Scale, ...]], list[Terms]]] = {
    "streaming": streaming.region_terms,
    "patches": patches.region_terms,
}
DEFAULT_IMPLEMENTATION = "streaming"
SMALLEST_JITTER = 1e-12  # float32 needs 1e-5 with few positions; with 1e-30 nothing is left
LARGEST_ANCHOR = 1e6  # there the regression matrix is the identity to the last digit of float32


class RegionOptions(NamedTuple):
    """How the RMI term is computed."""

    scales: tuple[Scale, ...]
    scale_weights: jax.Array  # [number of scales]
    prior: Prior  # jitter alpha and anchor tau
    offset: jax.Array | None  # [N] shift of the grid of region positions
    implementation: str

    @property
    def spatial_axis_name(self) -> str | None:
        """Mesh axis over which the rows of the images are spread."""
        shared = self.scales[0].halo
        return None if shared is None else shared.axis_name


def read(
    shape: Sequence[int],
    dtype: jnp.dtype,
    *,
    activation: str,
    region_size: int | Sequence[int],
    dilation: int | Sequence[int],
    factor: Factor,
    scale_weights: Sequence[float] | jax.Array | None,
    downsampling: str,
    jitter: float | jax.Array,
    anchor: float | jax.Array = 0.0,
    ignored: str,
    region_stride: int | Sequence[int],
    region_key: jax.Array | None,
    spatial_axis_name: str | None,
    implementation: str | None,
) -> RegionOptions:
    """Checks the options of the RMI term against maps of ``shape`` ``[B, *S, C]``."""
    rows, *others = shape[1:-1]
    devices = (
        1 if spatial_axis_name is None else halo.axis_size("spatial_axis_name", spatial_axis_name)
    )
    spatial = (devices * rows, *others)
    ndim = len(spatial)
    checks.one_of("downsampling", downsampling, ("avg", "max", "interpolate"))
    checks.one_of("ignored", ignored, ("exclude", "zero"))
    checks.scalar("jitter", jitter, least=SMALLEST_JITTER)
    checks.scalar("anchor", anchor, most=LARGEST_ANCHOR)
    implementation = DEFAULT_IMPLEMENTATION if implementation is None else implementation
    checks.one_of("implementation", implementation, tuple(IMPLEMENTATIONS))
    regions = Regions(
        checks.per_axis("region_size", region_size, ndim),
        checks.per_axis("dilation", dilation, ndim),
        checks.per_axis("region_stride", region_stride, ndim),
    )
    scales = []
    for factors in _factors(factor, ndim):
        checks.cells_left(spatial, factors, downsampling)
        cells = cell_counts(spatial, factors, downsampling)
        checks.regions_fit(regions.span, cells, f"factor {factors} of a {spatial} map")
        scales.append(Scale(activation, factors, downsampling, ignored, regions))
    if spatial_axis_name is not None:
        shared = halo.plan(spatial_axis_name, rows, tuple(scales))
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


def region_terms(
    inputs: jax.Array,
    targets: jax.Array,
    weights: jax.Array | None,
    options: RegionOptions,
    active: bool | jax.Array = True,
) -> Terms:
    """The weighted sum over scales of what the chosen implementation computes, ``[B, C]`` each."""
    maps = Maps(inputs, targets, weights, options.offset, jnp.asarray(active))
    maps = halo.exchange(maps, options.scales[0].halo)
    per_scale = IMPLEMENTATIONS[options.implementation](maps, options.prior, options.scales)
    chex.assert_shape(jax.tree.leaves(per_scale), (inputs.shape[0], inputs.shape[-1]))
    return jax.tree.map(
        lambda *terms: sum(w * t for w, t in zip(options.scale_weights, terms, strict=True)),
        *per_scale,
    )


def floor(options: RegionOptions) -> jax.Array:
    """The smallest value of the authors' RMI term per class, ``log(alpha) / 2`` nats (F4)."""
    return 0.5 * jnp.log(options.prior.jitter) * jnp.sum(options.scale_weights)


def mutual_information(information: jax.Array, entropy: jax.Array, *, normalize: bool) -> jax.Array:
    """What the prediction explains of the truth's entropy, in nats or as a share of it."""
    varies = entropy > 0
    explained = jnp.where(varies, jnp.maximum(entropy - information, 0), 0)
    return explained / jnp.where(varies, entropy, 1) if normalize else explained


def pixel_weights(where: jax.Array | None, maps: jax.Array) -> jax.Array | None:
    """Checks ``where`` against maps ``[B, *S, C]``; weights have no gradient."""
    if where is None:
        return None
    array_checks.pixel_weights("where", where, maps.shape[:-1])
    return lax.stop_gradient(jnp.asarray(where, compute_dtype(maps.dtype)))


def _factors(factor: Factor, ndim: int) -> list[tuple[int, ...]]:
    if not isinstance(factor, Sequence | np.ndarray) or isinstance(factor, str):
        return [checks.per_axis("factor", factor, ndim)]
    if len(factor) == 0:
        raise ValueError("factor must name at least one scale, got an empty sequence; use 1")
    return [checks.per_axis("factor", entry, ndim) for entry in factor]


def _scale_weights(scale_weights, scales: int, dtype: jnp.dtype) -> jax.Array:
    if scale_weights is None:
        decay = 0.5 ** np.arange(scales)
        return jnp.asarray(decay / decay.sum(), dtype)
    checks.vector("scale_weights", scale_weights, scales, "one per scale in factor")
    return jnp.asarray(scale_weights, dtype)

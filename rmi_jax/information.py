"""RMI by itself, without the cross entropy: the loss term and the mutual information in nats."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rmi_jax import checks, ranges
from rmi_jax.dtypes import Array, compute_dtype
from rmi_jax.options import Factor, RegionOptions, read_where, region_options
from rmi_jax.terms import has_entropy, mutual_information, region_loss, region_terms


def region_information_loss(
    probs: Array,
    targets: Array,
    *,
    region_size: int | Sequence[int] = 3,
    dilation: int | Sequence[int] = 1,
    factor: Factor = 1,
    scale_weights: Sequence[float] | Array | None = None,
    downsampling: str = "avg",
    jitter: ArrayLike = 5e-4,
    anchor: ArrayLike = 0.0,
    where: Array | None = None,
    ignored: str = "exclude",
    zero_floor: bool = True,
    region_stride: int | Sequence[int] = 1,
    region_key: Array | None = None,
    axis: int = -1,
    spatial_axis_name: str | None = None,
    implementation: str | None = None,
) -> jax.Array:
    r"""The RMI term per image and class, a Gaussian bound on what the prediction leaves open.

    .. math:: \frac{1}{2d} \log\det(M + \alpha I), \quad
       M = Y Y^\top - Y P^\top (P P^\top + \alpha I)^{-1} P Y^\top

    Args:
      probs: predicted probabilities ``[B, *S, C]`` in [0, 1], any floating dtype.
      targets: true probabilities ``[B, *S, C]`` in [0, 1]; they have a gradient too.
      region_size: cells along each side of a region, an int or one per spatial axis.
      dilation: distance in cells between neighbours within a region, likewise.
      factor: pixels per cell, 1 for full resolution; a sequence means several scales.
      scale_weights: weights of the scales; None halves from one to the next and sums to 1.
      downsampling: ``"avg"``, ``"max"`` or ``"interpolate"``.
      jitter: alpha, added to the scatter matrices (sums over positions); no gradient flows to it.
      anchor: tau, in [0, 1e6]: copies of the truth that predict themselves; no gradient flows
        to it; see `rmi_loss`.
      where: ``[B, *S]`` mask or non-negative pixel weights; no gradient flows to it.
      ignored: what pixels of weight 0 do, ``"exclude"`` or ``"zero"``; see `rmi_loss`.
      zero_floor: subtract ``log(alpha) / 2``, the smallest value possible.
      region_stride: use every k-th region position, an int or one per spatial axis.
      region_key: PRNG key that shifts the grid of positions at random.
      axis: the class axis of both arguments.
      spatial_axis_name: inside ``shard_map``, the mapped axis that shards the first spatial axis;
        see `rmi_loss`.
      implementation: ``"streaming"`` (default) or ``"patches"``; see `rmi_loss`.

    Returns:
      ``[B, C]`` in nats per region dimension, float32 (float64 for float64 ``probs``).

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if shapes do not match, a value or option is out of range, or no region fits.

    References:
      Zhao et al., `arXiv:1910.12037 <https://arxiv.org/abs/1910.12037>`_, eq. 13-15.
    """
    checks.boolean("zero_floor", zero_floor)
    maps, options = _read(
        probs,
        targets,
        where,
        axis,
        region_size=region_size,
        dilation=dilation,
        factor=factor,
        scale_weights=scale_weights,
        downsampling=downsampling,
        jitter=jitter,
        anchor=anchor,
        ignored=ignored,
        region_stride=region_stride,
        region_key=region_key,
        spatial_axis_name=spatial_axis_name,
        implementation=implementation,
    )
    return region_loss(region_terms(*maps, options), options, zero_floor=zero_floor)


def region_mutual_information(
    probs: Array,
    targets: Array,
    *,
    normalize: bool = False,
    region_size: int | Sequence[int] = 3,
    dilation: int | Sequence[int] = 1,
    factor: Factor = 1,
    scale_weights: Sequence[float] | Array | None = None,
    downsampling: str = "avg",
    jitter: ArrayLike = 5e-4,
    where: Array | None = None,
    ignored: str = "exclude",
    region_stride: int | Sequence[int] = 1,
    region_key: Array | None = None,
    axis: int = -1,
    spatial_axis_name: str | None = None,
    implementation: str | None = None,
) -> jax.Array:
    r"""Gaussian mutual information of predicted and true regions: a metric that a person can read.

    .. math:: \frac{1}{2d} \log \frac{\det(Y Y^\top + \alpha I)}{\det(M + \alpha I)}

    0 for a constant prediction or a constant truth, and about ``d / (2 n)`` for independent noise
    on ``n`` positions. Without ``normalize`` it is symmetric in its two arguments, as long as
    ``downsampling`` and ``ignored`` treat both alike: ``"interpolate"`` and ``"zero"`` do not.

    Args:
      probs: predicted probabilities ``[B, *S, C]`` in [0, 1], any floating dtype.
      targets: true probabilities ``[B, *S, C]`` in [0, 1].
      normalize: divide by ``1/(2d) log det(I + Y Y' / alpha)``, the most there is to know, for a
        value in [0, 1).
      region_size: cells along each side of a region, an int or one per spatial axis.
      dilation: distance in cells between neighbours within a region, likewise.
      factor: pixels per cell, 1 for full resolution; a sequence means several scales.
      scale_weights: weights of the scales; None halves from one to the next and sums to 1.
      downsampling: ``"avg"``, ``"max"`` or ``"interpolate"``.
      jitter: alpha, added to the scatter matrices (sums over positions); no gradient flows to it.
      where: ``[B, *S]`` mask or non-negative pixel weights; no gradient flows to it.
      ignored: what pixels of weight 0 do, ``"exclude"`` or ``"zero"``; see `rmi_loss`.
      region_stride: use every k-th region position, an int or one per spatial axis.
      region_key: PRNG key that shifts the grid of positions at random.
      axis: the class axis of both arguments.
      spatial_axis_name: inside ``shard_map``, the mapped axis that shards the first spatial axis;
        see `rmi_loss`.
      implementation: ``"streaming"`` (default) or ``"patches"``; see `rmi_loss`.

    Returns:
      ``[B, C]`` in nats per region dimension (a share if normalized), float32 (float64 for
      float64 ``probs``).

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if shapes do not match, a value or option is out of range, or no region fits.
    """
    checks.boolean("normalize", normalize)
    maps, options = _read(
        probs,
        targets,
        where,
        axis,
        region_size=region_size,
        dilation=dilation,
        factor=factor,
        scale_weights=scale_weights,
        downsampling=downsampling,
        jitter=jitter,
        ignored=ignored,
        region_stride=region_stride,
        region_key=region_key,
        spatial_axis_name=spatial_axis_name,
        implementation=implementation,
    )
    terms = region_terms(*maps, options)
    varies = has_entropy(terms, options.scale_weights)
    return mutual_information(terms.information, terms.entropy, varies, normalize=normalize)


def _read(
    probs: Array,
    targets: Array,
    where: Array | None,
    axis: int,
    **options: Any,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array | None], RegionOptions]:
    maps = []
    for name, value in (("probs", probs), ("targets", targets)):
        checks.floating_maps(name, value)
        checks.shape(name, value, probs.shape, "the shape of probs")
        ranges.unit_interval(name, value)
        maps.append(jnp.moveaxis(value, checks.class_axis("axis", axis, value.ndim), -1))
    dtype = compute_dtype(maps[0].dtype)
    expanded = region_options(maps[0].shape, dtype, activation="identity", **options)
    p, y = maps[0], maps[1].astype(dtype)
    return (p, y, read_where(where, p.shape[:-1], dtype)), expanded

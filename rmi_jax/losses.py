"""The paper's objective: cross entropy and region mutual information, mixed."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rmi_jax import checks, ranges
from rmi_jax.dtypes import Array, compute_dtype
from rmi_jax.labels import check_labels, narrow
from rmi_jax.objective import objective
from rmi_jax.options import Factor, read_where

# The authors' loss, number for number: ``rmi_loss(logits, labels, **PAPER)``.
PAPER: Mapping[str, Any] = MappingProxyType(
    {
        "bce_weight": 0.5,
        "region_size": 3,
        "factor": 4,
        "downsampling": "avg",
        "activation": "sigmoid",
        "jitter": 5e-4,
        "anchor": 0.0,
        "ignored": "zero",
        "zero_floor": False,
    }
)


def rmi_loss(
    logits: Array,
    labels: Array,
    *,
    bce_weight: ArrayLike = 0.5,
    rmi_weight: ArrayLike | None = None,
    region_size: int | Sequence[int] = 3,
    dilation: int | Sequence[int] = 1,
    factor: Factor = 1,
    scale_weights: Sequence[float] | Array | None = None,
    downsampling: str = "avg",
    activation: str = "softmax",
    jitter: ArrayLike = 5e-4,
    anchor: ArrayLike = 0.01,
    class_weights: Sequence[float] | Array | None = None,
    where: Array | None = None,
    ignored: str = "exclude",
    zero_floor: bool = True,
    region_stride: int | Sequence[int] = 1,
    region_key: Array | None = None,
    reduction: str = "mean",
    has_aux: bool = False,
    axis: int = -1,
    axis_name: str | tuple[str, ...] | None = None,
    spatial_axis_name: str | None = None,
    implementation: str | None = None,
) -> Any:
    r"""Region mutual information loss with cross entropy, for integer labels.

    The defaults are those that the project's study supports; ``**rmi_jax.PAPER`` gives the paper's.

    .. math:: \lambda\,\mathrm{CE} + (1 - \lambda) \frac{1}{B} \sum_{b, c}
       \frac{1}{2d} \log\det(M_{bc} + \alpha I)

    Args:
      logits: ``[B, *S, C]``, unnormalized, with 1 to 3 spatial axes; any floating dtype.
      labels: integer classes ``[B, *S]``; a pixel with a label outside ``[0, C)`` is ignored.
      bce_weight: lambda, the weight of the cross entropy; may be traced, for a schedule (none is
        needed). A weight of exactly 1 skips the RMI work.
      rmi_weight: weight of the RMI term; None means ``1 - bce_weight``.
      region_size: cells along each side of a region, an int or one per spatial axis.
      dilation: distance in cells between neighbours within a region, likewise.
      factor: pixels per cell, 1 for full resolution. A sequence means several scales, each an
        int or one int per spatial axis: ``(1, 2, 4)`` or ``((1, 2, 2),)``.
      scale_weights: weights of the scales; None halves from one to the next and sums to 1.
      downsampling: ``"avg"``, ``"max"`` or ``"interpolate"``.
      activation: ``"softmax"`` or ``"sigmoid"``, for probabilities and cross entropy alike.
      jitter: alpha, added to the scatter matrices (sums over positions); at least 1e-12, in
        float32 better 1e-5. No gradient flows to it.
      anchor: tau, in [0, 1e6], may be traced; no gradient flows to it. The statistics get tau
        copies of the truth as its own prediction. 0 is the paper's term, which cannot tell the
        truth from an invertible filter of it, such as its negative. With an anchor, and but for the
        jitter, the term is smallest at the truth alone, up to a constant, where the regions of the
        truth span all directions; its gradient at a constant prediction points there. In float32
        the gradient of soft targets is accurate up to about 10.
      class_weights: ``[C]``, multiplies both parts.
      where: ``[B, *S]`` mask or non-negative pixel weights, each at most 1e12 over the number of
        pixels; no gradient flows to it.
      ignored: ``"exclude"`` takes regions that touch an ignored pixel out of the statistics,
        ``"zero"`` keeps them with y = 0 and p = 1e-6, as the authors do.
      zero_floor: subtract the smallest value possible, ``log(alpha) / 2`` per class, so that the
        RMI term is 0 for an absent class and never negative. False gives the authors' value.
      region_stride: use every k-th region position, an int or one per spatial axis.
      region_key: PRNG key that shifts the grid of positions at random.
      reduction: ``"mean"``, or ``"none"`` for terms ``[B]`` whose mean is the scalar.
      has_aux: return ``(loss, LossParts)``; the RMI part is then computed whatever its weight.
      axis: the class axis of the logits.
      axis_name: inside ``shard_map``, the mapped axis or axes that shard the batch. Each device
        returns what its own images give; the loss of the batch is the mean over the axis,
        ``jax.lax.pmean``. (In `LossParts`, means over ``images`` are to be weighted with those.)
      spatial_axis_name: inside ``shard_map``, the mapped axis that shards the first spatial axis
        of images too large for one device; all return the loss of the whole images.
      implementation: ``"streaming"`` (default: bounded memory, reverse mode only) or
        ``"patches"`` (the reference: also forward mode and higher derivatives).

    Returns:
      The loss in nats, float32 (float64 for float64 logits): a scalar or ``[B]``. It and its
      gradient are finite for logits up to 1e30 in size and a jitter of at least 1e-5, as long as
      the weights that multiply them leave them in the range of their type.

    Raises:
      TypeError: if an argument has the wrong type, such as floating-point labels.
      ValueError: if shapes do not match, an option is out of range, or a region does not fit.

    References:
      Zhao, Wang, Yang, Cai, `Region Mutual Information Loss for Semantic Segmentation
      <https://arxiv.org/abs/1910.12037>`_, NeurIPS 2019, eq. 13-16.
    """
    checks.floating_maps("logits", logits)
    given, logits = logits, _classes_last(logits, axis)
    check_labels(
        "labels",
        labels,
        logits.shape[:-1],
        "logits without the class axis",
        for_probabilities="for maps of class probabilities use soft_rmi_loss",
        remedy=_axis_remedy(given, labels),
    )
    if logits.shape[-1] < 2:
        raise ValueError(
            f"logits must have at least 2 classes for integer labels, got {logits.shape[-1]}; "
            "for one channel use soft_rmi_loss with targets of shape [B, *S, 1]"
        )
    labels = narrow(labels, logits.shape[-1])
    valid = (labels >= 0) & (labels < logits.shape[-1])
    dtype = compute_dtype(logits.dtype)
    weights = read_where(where, labels.shape, dtype)
    weights = valid.astype(dtype) if weights is None else jnp.where(valid, weights, 0)
    return objective(
        logits,
        labels,
        weights,
        activation=activation,
        bce_weight=bce_weight,
        rmi_weight=rmi_weight,
        class_weights=class_weights,
        zero_floor=zero_floor,
        reduction=reduction,
        has_aux=has_aux,
        axis_name=axis_name,
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


def soft_rmi_loss(
    logits: Array,
    targets: Array,
    *,
    bce_weight: ArrayLike = 0.5,
    rmi_weight: ArrayLike | None = None,
    region_size: int | Sequence[int] = 3,
    dilation: int | Sequence[int] = 1,
    factor: Factor = 1,
    scale_weights: Sequence[float] | Array | None = None,
    downsampling: str = "avg",
    activation: str = "sigmoid",
    jitter: ArrayLike = 5e-4,
    anchor: ArrayLike = 0.1,
    class_weights: Sequence[float] | Array | None = None,
    where: Array | None = None,
    ignored: str = "exclude",
    zero_floor: bool = True,
    region_stride: int | Sequence[int] = 1,
    region_key: Array | None = None,
    reduction: str = "mean",
    has_aux: bool = False,
    axis: int = -1,
    axis_name: str | tuple[str, ...] | None = None,
    spatial_axis_name: str | None = None,
    implementation: str | None = None,
) -> Any:
    """`rmi_loss` for target maps: soft, smoothed or multi-label, or binary with one channel.

    Args:
      logits: ``[B, *S, C]``, unnormalized; ``C = 1`` with ``activation="sigmoid"`` is binary.
      targets: ``[B, *S, C]`` in [0, 1], classes on the same axis as in ``logits``. They have a
        gradient too.
      bce_weight: as in `rmi_loss`, like every option that follows.
      rmi_weight: see `rmi_loss`.
      region_size: see `rmi_loss`.
      dilation: see `rmi_loss`.
      factor: see `rmi_loss`.
      scale_weights: see `rmi_loss`.
      downsampling: see `rmi_loss`; ``"interpolate"`` takes the nearest target.
      activation: see `rmi_loss`; sigmoids by default, since the classes of target maps need not
        exclude each other.
      jitter: see `rmi_loss`.
      anchor: see `rmi_loss`; larger here, because sigmoids without one can lose a rare class.
      class_weights: see `rmi_loss`.
      where: see `rmi_loss`; the only way to ignore pixels here.
      ignored: see `rmi_loss`.
      zero_floor: see `rmi_loss`.
      region_stride: see `rmi_loss`.
      region_key: see `rmi_loss`.
      reduction: see `rmi_loss`.
      has_aux: see `rmi_loss`.
      axis: see `rmi_loss`.
      axis_name: see `rmi_loss`.
      spatial_axis_name: see `rmi_loss`.
      implementation: see `rmi_loss`.

    Returns:
      The loss in nats, float32 (float64 for float64 logits): a scalar or ``[B]``.

    Raises:
      TypeError: if an argument has the wrong type, such as integer targets.
      ValueError: if shapes do not match, an option is out of range, or targets leave [0, 1].
    """
    checks.floating_maps("logits", logits)
    checks.floating_maps("targets", targets)
    checks.shape("targets", targets, logits.shape, "the shape of logits")
    ranges.unit_interval("targets", targets)  # as given: moved, it is traced under `jit`
    logits, targets = (_classes_last(maps, axis) for maps in (logits, targets))
    dtype = compute_dtype(logits.dtype)
    targets = targets.astype(dtype)
    if activation == "softmax" and logits.shape[-1] == 1:
        raise ValueError("logits have 1 class, where softmax is constant; use activation='sigmoid'")
    weights = read_where(where, logits.shape[:-1], dtype)
    return objective(
        logits,
        targets,
        weights,
        activation=activation,
        bce_weight=bce_weight,
        rmi_weight=rmi_weight,
        class_weights=class_weights,
        zero_floor=zero_floor,
        reduction=reduction,
        has_aux=has_aux,
        axis_name=axis_name,
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


def _axis_remedy(logits: Array, labels: Any) -> str:
    channels_first = logits.shape[0], *logits.shape[2:]
    if getattr(labels, "shape", None) != channels_first:
        return ""
    return "for classes on the second axis of logits, as in PyTorch, use axis=1"


def _classes_last(maps: Array, axis: int) -> jax.Array:
    return jnp.moveaxis(maps, checks.class_axis("axis", axis, maps.ndim), -1)

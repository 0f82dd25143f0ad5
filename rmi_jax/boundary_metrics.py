"""Metrics along boundaries, from integer counts that add up over batches and devices."""

import jax
import jax.numpy as jnp
import numpy as np

from rmi_jax import checks, class_maps, concrete, ranges, undefined
from rmi_jax.dtypes import Array


def boundary_counts(
    predictions: Array,
    labels: Array,
    num_classes: int,
    *,
    tolerance: float,
    where: Array | None = None,
) -> jax.Array:
    """Counts what `boundary_f1` and `boundary_iou` need.

    A class's *contour* is its pixels that share a side (in a volume, a face) with a pixel of
    another class; its *band* is its pixels at most ``tolerance`` from one. The edge of the image is
    no boundary. Neither can be told next to ignored pixels, so pixels at most ``tolerance`` from an
    ignored one are left out.

    Args:
      predictions: predicted class indices, integers, shape ``[B, *S]``.
      labels: true class indices, integers, same shape; outside ``[0, num_classes)`` means ignored.
      num_classes: number of classes ``C``.
      tolerance: Euclidean distance in pixels, at least 1, static under ``jit``. The work grows as
        ``tolerance`` to the number of spatial axes.
      where: optional boolean mask, same shape; pixels where it is false are ignored.

    Returns:
      int32 ``[C, 6]``: predicted contour pixels that lie within ``tolerance`` of the true contour,
      all predicted contour pixels, true contour pixels within ``tolerance`` of the predicted
      contour, all true contour pixels, and intersection and union of the two bands.

    Raises:
      TypeError: as `confusion_matrix`, and for a tolerance that is not a static real number.
      ValueError: as `confusion_matrix`, and for a tolerance below 1 or not finite.
    """
    num_classes = checks.positive_int("num_classes", num_classes)
    predictions, labels, valid = class_maps.pair(predictions, labels, num_classes, where)
    tolerance = ranges.static_scalar("tolerance", tolerance, least=1)
    known = ~_near(~valid, tolerance)

    def count_class(index: jax.Array) -> jax.Array:
        predicted, true = predictions == index, labels == index
        predicted_contour = known & predicted & _near(valid & ~predicted, 1)
        true_contour = known & true & _near(valid & ~true, 1)
        predicted_band = known & predicted & _near(valid & ~predicted, tolerance)
        true_band = known & true & _near(valid & ~true, tolerance)
        counted = (
            predicted_contour & _near(true_contour, tolerance),
            predicted_contour,
            true_contour & _near(predicted_contour, tolerance),
            true_contour,
            predicted_band & true_band,
            predicted_band | true_band,
        )
        return jnp.stack([pixels.sum(dtype=jnp.int32) for pixels in counted])

    return jax.lax.map(count_class, jnp.arange(num_classes))


def boundary_f1(counts: Array) -> jax.Array:
    """Boundary F1 of each class, ``[C]``, from `boundary_counts` ``[C, 6]``; NaN without contours.

    Precision is the share of predicted contour pixels within the tolerance of the true contour,
    recall the share of true contour pixels within it of the predicted one (Csurka et al., "What is
    a good evaluation measure for semantic segmentation?", BMVC 2013; here over the whole data).
    """
    matched_predicted, predicted, matched_true, true, _, _ = _columns(counts)
    precision = undefined.ratio(matched_predicted, predicted, 0)
    recall = undefined.ratio(matched_true, true, 0)
    f1 = undefined.ratio(2 * precision * recall, precision + recall, 0)
    return undefined.where_defined(predicted + true > 0, f1)


def boundary_iou(counts: Array) -> jax.Array:
    """Boundary IoU of each class, ``[C]``, from `boundary_counts` ``[C, 6]``; NaN without bands.

    Intersection over union of the two bands along the boundaries (Cheng et al., "Boundary IoU",
    CVPR 2021; there the band is counted in steps of the 8-neighbourhood, and runs along the edge of
    the image too).
    """
    *_, intersection, union = _columns(counts)
    return undefined.ratio(intersection, union)


def _near(mask: jax.Array, distance: float) -> jax.Array:
    """Pixels at most ``distance`` (Euclidean, in pixels) from a true pixel of their image."""
    axes = mask.ndim - 1
    # No further than the image is large.
    reach = [min(int(distance), side - 1) for side in mask.shape[1:]]
    steps = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    ball = np.less_equal(sum(step**2 for step in steps), distance**2)
    # 0 and 1 are exact in every precision that a device may choose; their sum need not be.
    hits = jax.lax.conv_general_dilated(
        mask[:, None].astype(jnp.float32),
        jnp.asarray(ball[None, None], jnp.float32),
        window_strides=(1,) * axes,
        padding="SAME",
    )
    return hits[:, 0] > 0.5


def _columns(counts: Array) -> tuple[jax.Array, ...]:
    ranges.counts("counts", counts, "boundary_counts")
    if counts.ndim != 2 or counts.shape[1] != 6 or counts.size == 0:
        raise ValueError(
            f"counts must be boundary counts [C, 6], got shape {counts.shape}; "
            "use what boundary_counts returns, or sums of it"
        )
    # A confusion matrix of 6 classes has this shape as well.
    known = concrete.values(counts)
    if known is not None and (known[:, ::2] > known[:, 1::2]).any():
        raise ValueError(
            f"counts must not have a part that exceeds its whole, got {known.tolist()}; "
            "use what boundary_counts returns, or sums of it"
        )
    return tuple(jnp.asarray(counts, jnp.float32).T)

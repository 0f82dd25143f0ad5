"""Segmentation metrics as integer counts that add up, and ratios taken at the end.

Both kinds of count are int32 arrays: add them over batches with ``+``, over devices with
``jax.lax.psum``, and take the ratios once, of the sum. (The mean of the IoUs of several batches is
not the IoU of the data.) int32 is exact up to 2**31 - 1, about two thousand megapixels in one cell
of the matrix; past that, add the counts up on the host as NumPy int64 arrays, which the ratios take
as well. Everything here works under ``jit`` and on label maps with any number of spatial axes.

An undefined ratio, such as the IoU of an absent class, is NaN. ``jax_debug_nans`` does not stop at
it here, but does where your own jitted function returns one.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from rmi_jax import checks, class_maps, concrete, dtypes, ranges, undefined
from rmi_jax.dtypes import Array
from rmi_jax.image_metrics import class_image_iou, image_iou, mean_image_iou  # noqa: F401

MOST_CLASSES = math.isqrt(np.iinfo(np.int32).max)  # of a matrix whose cells an int32 can number


def confusion_matrix(
    predictions: Array,
    labels: Array,
    num_classes: int,
    *,
    where: Array | None = None,
) -> jax.Array:
    """Counts pixels by true and predicted class.

    Args:
      predictions: predicted class indices, integers, shape ``[B, *S]``.
      labels: true class indices, integers, same shape. Pixels whose label is outside
        ``[0, num_classes)`` are ignored, and so is a prediction outside that range.
      num_classes: number of classes ``C``.
      where: optional boolean mask, same shape; only pixels where it is true are counted.

    Returns:
      int32 ``[C, C]``: row is the true class, column the predicted one.

    Raises:
      TypeError: for class maps that are not integers, a mask that is not boolean, or a number of
        classes that is not a static int.
      ValueError: for shapes that differ or have an empty axis, or a number of classes below 1 or
        above 46340.
    """
    predictions, labels, valid = class_maps.pair(predictions, labels, num_classes, where)
    if num_classes > MOST_CLASSES:
        raise ValueError(f"num_classes must be at most {MOST_CLASSES}, got {num_classes}")
    valid &= (predictions >= 0) & (predictions < num_classes)
    cells = num_classes**2
    pairs = jnp.where(valid, labels * num_classes + predictions, cells)
    # One histogram per image, so that a sharded batch stays sharded until the sum.
    counts = jax.vmap(lambda image: jnp.bincount(image.ravel(), length=cells + 1))(pairs)
    return counts.sum(0, dtype=jnp.int32)[:cells].reshape(num_classes, num_classes)


def iou(matrix: Array) -> jax.Array:
    """Intersection over union of each class, ``[C]``, from a confusion matrix ``[C, C]``.

    NaN for an absent class: one that is neither in the labels nor predicted. Every ratio raises
    TypeError or ValueError for what cannot be counts: another shape, negative numbers, NaN.
    """
    hits, misses, false_alarms = _hits_misses_false_alarms(matrix)
    return _ratio(hits, hits + misses + false_alarms)


def mean_iou(matrix: Array) -> jax.Array:
    """Mean intersection over union (a scalar), absent classes left out; NaN if all are absent."""
    hits, misses, false_alarms = _hits_misses_false_alarms(matrix)
    union = hits + misses + false_alarms
    return _ratio(_ratio(hits, union, 0).sum(), (union > 0).sum(dtype=jnp.float32))


def dice(matrix: Array) -> jax.Array:
    """Dice coefficient (F1) of each class, ``[C]``, from a confusion matrix; NaN where absent."""
    hits, misses, false_alarms = _hits_misses_false_alarms(matrix)
    return _ratio(2 * hits, 2 * hits + misses + false_alarms)


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
    precision = _ratio(matched_predicted, predicted, 0)
    recall = _ratio(matched_true, true, 0)
    f1 = _ratio(2 * precision * recall, precision + recall, 0)
    return undefined.where_defined(predicted + true > 0, f1)


def boundary_iou(counts: Array) -> jax.Array:
    """Boundary IoU of each class, ``[C]``, from `boundary_counts` ``[C, 6]``; NaN without bands.

    Intersection over union of the two bands along the boundaries (Cheng et al., "Boundary IoU",
    CVPR 2021; there the band is counted in steps of the 8-neighbourhood, and runs along the edge of
    the image too).
    """
    *_, intersection, union = _columns(counts)
    return _ratio(intersection, union)


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


def _hits_misses_false_alarms(matrix: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    _check_counts("matrix", matrix, "confusion_matrix")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(
            f"matrix must be a confusion matrix [C, C], got shape {matrix.shape}; "
            "use what confusion_matrix returns, or sums of it"
        )
    # To floats before adding: sums of int32 counts could wrap around.
    matrix = jnp.asarray(matrix, jnp.float32)
    hits = jnp.diagonal(matrix)
    others = jnp.where(jnp.eye(len(matrix), dtype=bool), 0, matrix)
    return hits, others.sum(1), others.sum(0)


def _columns(counts: Array) -> tuple[jax.Array, ...]:
    _check_counts("counts", counts, "boundary_counts")
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


def _check_counts(name: str, value: Array, source: str) -> None:
    checks.array(name, value)
    if not dtypes.is_real(value.dtype):
        raise TypeError(
            f"{name} must hold counts, got {value.dtype}; use what {source} returns, or sums of it"
        )
    ranges.nonnegative(name, value)


def _ratio(part: jax.Array, whole: jax.Array, otherwise: float = math.nan) -> jax.Array:
    # Not jnp.maximum(whole, 1), for counts that were divided by their sum are below 1.
    return undefined.where_defined(whole > 0, part / jnp.where(whole > 0, whole, 1), otherwise)

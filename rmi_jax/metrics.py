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

from rmi_jax import checks, class_maps, ranges, undefined
from rmi_jax.boundary_metrics import boundary_counts, boundary_f1, boundary_iou  # noqa: F401
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
    num_classes = checks.positive_int("num_classes", num_classes)
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
    return undefined.ratio(hits, hits + misses + false_alarms)


def mean_iou(matrix: Array) -> jax.Array:
    """Mean intersection over union (a scalar), absent classes left out; NaN if all are absent."""
    hits, misses, false_alarms = _hits_misses_false_alarms(matrix)
    union = hits + misses + false_alarms
    return undefined.ratio(
        undefined.ratio(hits, union, 0).sum(), (union > 0).sum(dtype=jnp.float32)
    )


def dice(matrix: Array) -> jax.Array:
    """Dice coefficient (F1) of each class, ``[C]``, from a confusion matrix; NaN where absent."""
    hits, misses, false_alarms = _hits_misses_false_alarms(matrix)
    return undefined.ratio(2 * hits, 2 * hits + misses + false_alarms)


def _hits_misses_false_alarms(matrix: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    ranges.counts("matrix", matrix, "confusion_matrix")
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

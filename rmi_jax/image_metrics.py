"""IoU image by image: small objects and bad images count as much as large and good ones.

IoUs of images do not add up as counts do. Join those of several batches along the first axis
(`jnp.concatenate`; of a sharded batch they are sharded as well), and summarize the whole.
An image without valid pixels, as in the padding of a last batch, is NaN throughout and left out.
"""

import jax
import jax.numpy as jnp

from rmi_jax import checks, class_maps, ranges
from rmi_jax.dtypes import Array
from rmi_jax.undefined import where_defined


def image_iou(
    predictions: Array,
    labels: Array,
    num_classes: int,
    *,
    where: Array | None = None,
) -> jax.Array:
    """Intersection over union of each class in each image.

    Args:
      predictions: predicted class indices, integers, shape ``[B, *S]``.
      labels: true class indices, integers, same shape. Pixels whose label is outside
        ``[0, num_classes)`` are ignored, and so is a prediction outside that range.
      num_classes: number of classes ``C``.
      where: optional boolean mask, same shape; only pixels where it is true are counted.

    Returns:
      float32 ``[B, C]``. NaN where the class is neither in the labels of the image nor predicted,
      0 where it is only predicted: a single false alarm in an image without the class.

    Raises:
      TypeError: for class maps that are not integers, a mask that is not boolean, or a number of
        classes that is not a static int.
      ValueError: for shapes that differ or have an empty axis, or a number of classes below 1.
    """
    num_classes = checks.positive_int("num_classes", num_classes)
    predictions, labels, valid = class_maps.pair(predictions, labels, num_classes, where)
    valid &= (predictions >= 0) & (predictions < num_classes)

    def pixels_of_classes(maps: jax.Array, counted: jax.Array) -> jax.Array:
        indices = jnp.where(counted, maps, num_classes)
        count = jax.vmap(lambda image: jnp.bincount(image.ravel(), length=num_classes + 1))
        return count(indices)[:, :num_classes].astype(jnp.float32)

    hits = pixels_of_classes(labels, valid & (predictions == labels))
    union = pixels_of_classes(labels, valid) + pixels_of_classes(predictions, valid) - hits
    return where_defined(union > 0, hits / jnp.maximum(union, 1))


def mean_image_iou(ious: Array, *, worst: float = 1.0) -> jax.Array:
    """Mean over the classes of each image, then over the images: a scalar.

    Args:
      ious: what `image_iou` returns, ``[images, C]``, of one batch or of all.
      worst: share of the images, the worst, to take the mean over, in (0, 1] and static: 0.1 for
        the worst decile. Of 25 images that is two and a half: the third has half a weight.

    Returns:
      The mean over the images that have any class, NaN without one (Wang et al., "Revisiting
      Evaluation Metrics for Semantic Segmentation", NeurIPS 2023: mIoU^I and its worst cases).

    Raises:
      TypeError: for IoUs that are not floating point, or a share that is not a static number.
      ValueError: for IoUs of another shape or outside [0, 1], or a share that is not in (0, 1].
    """
    share, ious = _share(worst), _checked(ious)
    known = ~jnp.isnan(ious)
    classes = jnp.sum(known, axis=1, dtype=jnp.float32)
    means = jnp.sum(jnp.where(known, ious, 0), axis=1) / jnp.maximum(classes, 1)
    return _mean_of_worst(means, classes > 0, share)


def class_image_iou(ious: Array, *, worst: float = 1.0) -> jax.Array:
    """Mean over the images of each class: ``[C]``, NaN for a class that no image has.

    `jnp.nanmean` of it is the mean over the images and then over the classes (mIoU^C of Wang et
    al.), in which a class of few images counts as much as one of many.

    Args:
      ious: what `image_iou` returns, ``[images, C]``, of one batch or of all.
      worst: share of the images that have the class, as in `mean_image_iou`.

    Returns:
      ``[C]``, the mean over the images in which the class is in the labels or predicted.

    Raises:
      TypeError: as `mean_image_iou`.
      ValueError: as `mean_image_iou`.
    """
    share, ious = _share(worst), _checked(ious)
    known = ~jnp.isnan(ious)
    each = jax.vmap(lambda column, known: _mean_of_worst(column, known, share), in_axes=1)
    return each(jnp.where(known, ious, 0), known)


def _mean_of_worst(scores: jax.Array, known: jax.Array, share: float) -> jax.Array:
    """Mean over that share of the known scores, the lowest; fractions of one count."""
    scores = jnp.sort(jnp.where(known, scores, 2))  # the unknown last
    count = jnp.sum(known, dtype=jnp.float32)
    kept = share * count
    weights = jnp.clip(kept - jnp.arange(len(scores), dtype=jnp.float32), 0, 1)
    return where_defined(count > 0, jnp.sum(weights * scores) / jnp.where(count > 0, kept, 1))


def _share(worst: float) -> float:
    share = ranges.static_scalar("worst", worst, least=0)
    if not 0 < share <= 1:
        raise ValueError(f"worst must be a share of the images in (0, 1], got {share}")
    return share


def _checked(ious: Array) -> jax.Array:
    checks.floating("ious", ious)
    if ious.ndim != 2 or 0 in ious.shape:
        raise ValueError(
            f"ious must have shape [images, classes], got {ious.shape}; use what image_iou returns"
        )
    ranges.unit_interval("ious", ious)
    return jnp.asarray(ious, jnp.float32)

"""IoU per image against plain NumPy loops over images, classes and pixels."""

import json
import math
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from processes import lines_of, run_in_process

from rmi_jax import metrics

CLASSES = 5


def pair(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images that miss classes, ignored pixels, predictions outside; one image is void."""
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.choice(rng.integers(0, CLASSES, 3), shape[1:]) for _ in range(shape[0])])
    other = rng.integers(0, CLASSES + 1, shape)  # CLASSES is no class
    predictions = np.where(rng.random(shape) < 0.8, labels, other)
    labels[rng.random(shape) < 0.1] = 255
    labels[-1] = 255
    return predictions, labels


def reference_iou(predictions, labels, where=None):
    rows = []
    for image in range(len(labels)):
        row = []
        for index in range(CLASSES):
            both = either = 0
            for pixel in np.ndindex(labels.shape[1:]):
                true, predicted = labels[image][pixel], predictions[image][pixel]
                left_out = where is not None and not where[image][pixel]
                if left_out or not 0 <= true < CLASSES or not 0 <= predicted < CLASSES:
                    continue
                both += true == index and predicted == index
                either += true == index or predicted == index
            row.append(both / either if either else math.nan)
        rows.append(row)
    return np.array(rows)


def reference_worst(scores, share):
    """Mean of a share of the known scores: each counts as what is left of the share."""
    known = sorted(score for score in scores if not math.isnan(score))
    left = total = share * len(known)
    value = 0.0
    for score in known:
        value += min(left, 1) * score
        left -= min(left, 1)
    return value / total if known else math.nan


def reference_rows(ious):
    means = []
    for row in ious:
        present = [value for value in row if not math.isnan(value)]
        means.append(sum(present) / len(present) if present else math.nan)
    return means


SHAPES = [(7, 23), (6, 9, 8), (4, 4, 5, 3)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_image_iou_equals_loops(shape, masked):
    predictions, labels = pair(0, shape)
    where = np.random.default_rng(1).random(shape) < 0.7 if masked else None
    ious = jax.jit(metrics.image_iou, static_argnums=2)(predictions, labels, CLASSES, where=where)
    expected = reference_iou(predictions, labels, where)
    assert ious.dtype == jnp.float32
    assert 0 < np.isnan(expected).sum() < expected.size
    np.testing.assert_allclose(ious, expected, rtol=1e-6)


@pytest.mark.parametrize("worst", [1.0, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("images", [1, 9, 30])
def test_means_equal_loops(images, worst):
    rng = np.random.default_rng(images)
    ious = np.where(rng.random((images, CLASSES)) < 0.4, np.nan, rng.random((images, CLASSES)))
    ious[images // 2] = np.nan if images > 1 else 0.25
    ious[:, 3] = np.nan
    ious = ious.astype(np.float32)
    mean = jax.jit(metrics.mean_image_iou, static_argnames="worst")(ious, worst=worst)
    np.testing.assert_allclose(mean, reference_worst(reference_rows(ious), worst), rtol=1e-5)
    expected = [reference_worst(column, worst) for column in ious.T]
    assert math.isnan(expected[3])
    np.testing.assert_allclose(metrics.class_image_iou(ious, worst=worst), expected, rtol=1e-5)


def test_a_false_alarm_counts_and_an_absent_class_does_not():
    labels = np.zeros((2, 4, 4), np.uint8)
    predictions = labels.copy()
    predictions[0, 0, 0] = 1
    ious = metrics.image_iou(predictions, labels, 3)
    np.testing.assert_allclose(ious, [[15 / 16, 0, np.nan], [1, np.nan, np.nan]])
    np.testing.assert_allclose(metrics.mean_image_iou(ious), (15 / 32 + 1) / 2)
    np.testing.assert_allclose(metrics.mean_image_iou(ious, worst=0.5), 15 / 32)
    np.testing.assert_allclose(metrics.class_image_iou(ious), [31 / 32, 0, np.nan])


def test_small_objects_count_as_much_as_large_ones():
    labels = np.zeros((2, 10, 10), np.int32)
    labels[0, :8] = 1
    labels[1, 0, 0] = 1
    predictions = labels.copy()
    predictions[1] = 0  # the small object is missed
    of_the_data = metrics.iou(metrics.confusion_matrix(predictions, labels, 2))
    of_images = metrics.class_image_iou(metrics.image_iou(predictions, labels, 2))
    assert of_the_data[1] > 0.98
    np.testing.assert_allclose(of_images[1], 0.5)


def test_batches_and_padding_join():
    predictions, labels = pair(2, (6, 9, 8))
    whole = metrics.image_iou(predictions, labels, CLASSES)
    parts = [
        metrics.image_iou(predictions[i : i + 2], labels[i : i + 2], CLASSES) for i in (0, 2, 4)
    ]
    joined = jnp.concatenate(parts)
    np.testing.assert_array_equal(joined, whole)
    assert np.isnan(joined[-1]).all()  # the image without valid pixels
    for worst in (1.0, 0.3):
        for mean in (metrics.mean_image_iou, metrics.class_image_iou):
            np.testing.assert_allclose(
                mean(joined, worst=worst), mean(joined[:-1], worst=worst), rtol=1e-6
            )


def test_a_sharded_batch_stays_sharded():
    line = lines_of(run_in_process(__file__, 4))["ious",]
    assert line["axes"] == ["batch"]
    expected = metrics.image_iou(*pair(3, (4, 9, 8)), CLASSES)
    np.testing.assert_array_equal(np.array(line["ious"], np.float32), expected)


def run(devices):
    """Prints the IoUs of a batch with an image on each of four devices."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    maps = jax.device_put(pair(3, (devices, 9, 8)), NamedSharding(mesh, PartitionSpec("batch")))
    ious = jax.jit(partial(metrics.image_iou, num_classes=CLASSES))(*maps)
    assert isinstance(ious.sharding, NamedSharding)
    axes = [axis for axis in ious.sharding.spec if axis is not None]
    print(json.dumps({"case": ("ious",), "axes": axes, "ious": ious.tolist()}))


@pytest.mark.parametrize(
    ("ious", "options", "error", "message"),
    [
        (np.zeros((2, 3), int), {}, TypeError, "ious must be floating point"),
        (np.zeros(3), {}, ValueError, r"ious must have shape \[images, classes\], got \(3,\)"),
        (np.full((2, 3), 50.0), {}, ValueError, r"ious must lie in \[0, 1\]"),
        (np.ones((2, 3)), {"worst": 0.0}, ValueError, r"worst must be a share .* got 0\.0"),
        (np.ones((2, 3)), {"worst": 10}, ValueError, r"worst must be a share .* got 10\.0"),
        (np.ones((2, 3)), {"worst": "0.1"}, TypeError, "worst must be a real number"),
    ],
)
def test_misuse_names_the_argument(ious, options, error, message):
    for mean in (metrics.mean_image_iou, metrics.class_image_iou):
        with pytest.raises(error, match=message):
            mean(ious, **options)


def test_image_iou_checks_its_maps_as_the_confusion_matrix_does():
    with pytest.raises(TypeError, match="predictions must be integers"):
        metrics.image_iou(np.zeros((1, 4)), np.zeros((1, 4), int), 2)
    with pytest.raises(ValueError, match="predictions must have shape"):
        metrics.image_iou(np.zeros((1, 4), int), np.zeros((1, 5), int), 2)
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        metrics.image_iou(np.zeros((1, 4), int), np.zeros((1, 4), int), 0)


if __name__ == "__main__":
    run(int(sys.argv[1]))

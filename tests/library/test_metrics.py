"""rmi_jax.metrics against scikit-learn and SciPy."""

import json
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from compiling import enable_x64
from jax.sharding import PartitionSpec
from processes import lines_of, run_in_process
from scipy import ndimage

from rmi_jax import metrics

CLASSES = 4


def blobs(seed: int, shape: tuple[int, ...], *, classes: int = CLASSES) -> np.ndarray:
    """Label maps with connected patches, so that there are boundaries worth the name."""
    noise = np.random.default_rng(seed).normal(size=(*shape, classes))
    smooth = ndimage.gaussian_filter(noise, [0] + [1.5] * (len(shape) - 1) + [0])
    return smooth.argmax(-1).astype(np.int32)


def pair(shape: tuple[int, ...], *, ignored: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A label map and a prediction that disagrees with it here and there."""
    labels = blobs(0, shape)
    predictions = np.where(blobs(1, shape, classes=2) == 0, labels, blobs(2, shape))
    if ignored:
        labels = np.where(np.random.default_rng(3).random(shape) < 0.01, 255, labels)
    return predictions, labels


SHAPES = [(2, 40), (2, 24, 31), (2, 9, 12, 14)]


@pytest.mark.parametrize("shape", SHAPES)
def test_confusion_matrix_and_ratios_match_scikit_learn(shape):
    predictions, labels = pair(shape, ignored=True)
    valid = labels != 255
    flat = labels[valid], predictions[valid]
    classes = range(CLASSES)
    matrix = jax.jit(metrics.confusion_matrix, static_argnums=2)(predictions, labels, CLASSES)
    assert matrix.dtype == jnp.int32
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(*flat, labels=classes))
    of_each: dict[str, Any] = {"labels": classes, "average": None}
    jaccard = sklearn.metrics.jaccard_score(*flat, **of_each)
    np.testing.assert_allclose(metrics.iou(matrix), jaccard, rtol=1e-6)
    np.testing.assert_allclose(metrics.mean_iou(matrix), np.mean(jaccard), rtol=1e-6)
    f1 = sklearn.metrics.f1_score(*flat, **of_each)
    np.testing.assert_allclose(metrics.dice(matrix), f1, rtol=1e-6)


def test_absent_classes_are_left_out_and_wrongly_predicted_ones_are_not():
    labels = np.zeros((1, 4, 4), np.int32)
    predictions = labels.copy()
    predictions[0, 0, :2] = 1
    matrix = metrics.confusion_matrix(predictions, labels, 3)
    np.testing.assert_allclose(metrics.iou(matrix), [14 / 16, 0, np.nan])
    np.testing.assert_allclose(metrics.mean_iou(matrix), 7 / 16)
    np.testing.assert_allclose(metrics.dice(matrix), [28 / 30, 0, np.nan])
    counts = metrics.boundary_counts(predictions, labels, 3, tolerance=1)
    np.testing.assert_array_equal(metrics.boundary_f1(counts), [0, 0, np.nan])
    np.testing.assert_array_equal(metrics.boundary_iou(counts), [0, 0, np.nan])


def test_predictions_and_labels_outside_the_classes_are_not_counted():
    labels = np.array([[0, 1, -1, 255, 1]])
    predictions = np.array([[0, 7, 0, 1, -2]])
    np.testing.assert_array_equal(
        metrics.confusion_matrix(predictions, labels, 2), [[1, 0], [0, 0]]
    )


def test_narrow_integers_hold_many_classes():
    labels = np.full((1, 3), 200, np.uint8)
    matrix = metrics.confusion_matrix(labels, labels, 300)
    assert matrix[200, 200] == 3
    assert matrix.sum() == 3


def near(mask: np.ndarray, distance: float) -> np.ndarray:
    """The same question as the library asks, answered by SciPy's exact distance transform."""
    far = [np.asarray(ndimage.distance_transform_edt(~one)) for one in mask]
    return np.stack([one.any() & (away <= distance) for one, away in zip(mask, far, strict=True)])


def reference_boundary_counts(predictions, labels, tolerance):
    valid = (labels >= 0) & (labels < CLASSES)
    known = ~near(~valid, tolerance)
    rows = []
    for index in range(CLASSES):
        contours, bands = [], []
        for classes in (predictions, labels):
            inside, outside = classes == index, valid & (classes != index)
            cross = ndimage.generate_binary_structure(labels.ndim - 1, 1)
            touching = np.stack([ndimage.binary_dilation(one, cross) for one in outside])
            contours.append(inside & touching & known)
            bands.append(inside & near(outside, tolerance) & known)
        matched = [
            contour & near(other, tolerance) for contour, other in (contours, reversed(contours))
        ]
        parts = matched[0], contours[0], matched[1], contours[1], bands[0] & bands[1]
        rows.append([part.sum() for part in (*parts, bands[0] | bands[1])])
    return np.array(rows)


@pytest.mark.parametrize(("tolerance", "ignored"), [(1, False), (2.5, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_boundary_counts_match_scipy(shape, tolerance, ignored):
    predictions, labels = pair(shape, ignored=ignored)
    counts = metrics.boundary_counts(predictions, labels, CLASSES, tolerance=tolerance)
    assert counts.dtype == jnp.int32
    expected = reference_boundary_counts(predictions, labels, tolerance)
    np.testing.assert_array_equal(counts, expected)
    precision, recall = expected[:, 0] / expected[:, 1], expected[:, 2] / expected[:, 3]
    np.testing.assert_allclose(
        metrics.boundary_f1(counts), 2 * precision * recall / (precision + recall), rtol=1e-6
    )
    np.testing.assert_allclose(
        metrics.boundary_iou(counts), expected[:, 4] / expected[:, 5], rtol=1e-6
    )


@pytest.mark.parametrize(("shift", "f1"), [(0, 1), (2, 1), (3, 0)])
def test_a_shifted_edge_is_forgiven_up_to_the_tolerance(shift, f1):
    labels = np.zeros((1, 8, 20), np.int32)
    predictions = labels.copy()
    labels[:, :, 10:] = 1
    predictions[:, :, 10 + shift :] = 1
    counts = metrics.boundary_counts(predictions, labels, 2, tolerance=2)
    np.testing.assert_array_equal(metrics.boundary_f1(counts), [f1, f1])


def test_the_edge_of_the_image_is_no_boundary():
    labels = np.ones((1, 6, 6), np.int32)
    counts = metrics.boundary_counts(labels, labels, 2, tolerance=3)
    np.testing.assert_array_equal(counts, np.zeros((2, 6)))


def test_where_ignores_as_labels_do():
    predictions, labels = pair((2, 24, 31))
    where = np.random.default_rng(5).random(labels.shape) < 0.99
    marked = np.where(where, labels, -1)
    for count in (
        metrics.confusion_matrix,
        lambda *args, **options: metrics.boundary_counts(*args, tolerance=1, **options),
    ):
        np.testing.assert_array_equal(
            count(predictions, labels, CLASSES, where=where), count(predictions, marked, CLASSES)
        )


def both_counts(predictions, labels):
    return (
        metrics.confusion_matrix(predictions, labels, CLASSES),
        metrics.boundary_counts(predictions, labels, CLASSES, tolerance=2),
    )


def test_counts_add_up_over_batches_and_devices():
    predictions, labels = pair((4, 16, 18), ignored=True)
    whole = both_counts(predictions, labels)
    halves = [both_counts(predictions[part], labels[part]) for part in (slice(2), slice(2, None))]
    line = lines_of(run_in_process(__file__, 4))["counts",]
    assert line["devices"] == 4
    spread = line["confusion"], line["boundary"]
    for one, added, summed in zip(whole, jax.tree.map(jnp.add, *halves), spread, strict=True):
        np.testing.assert_array_equal(one, added)
        np.testing.assert_array_equal(one, summed)


def run(devices):
    """Prints the counts of a batch with an image on each of four devices."""
    count = jax.shard_map(
        lambda *maps: jax.lax.psum(both_counts(*maps), "batch"),
        mesh=jax.sharding.Mesh(np.array(jax.devices()), ("batch",)),
        in_specs=PartitionSpec("batch"),
        out_specs=PartitionSpec(),
    )
    confusion, boundary = jax.jit(count)(*pair((devices, 16, 18), ignored=True))
    line = {"devices": len(jax.devices()), "confusion": confusion.tolist()}
    print(json.dumps({"case": ("counts",), **line, "boundary": boundary.tolist()}))


def test_a_narrow_number_of_classes():
    predictions, labels = pair((2, 40))
    narrow: Any = np.uint8(21)
    for count in (
        metrics.confusion_matrix,
        metrics.image_iou,
        partial(metrics.boundary_counts, tolerance=1),
    ):
        np.testing.assert_array_equal(
            count(predictions, labels, narrow), count(predictions, labels, 21)
        )


def test_counts_beyond_what_float32_resolves_stay_exact():
    labels = np.zeros((1, 2**24 + 3), np.uint8)
    assert metrics.confusion_matrix(labels, labels, 1)[0, 0] == 2**24 + 3


def test_ratios_of_numpy_int64_counts_beyond_int32():
    matrix = np.array([[3 * 2**40, 2**40], [0, 2**41]])
    np.testing.assert_allclose(metrics.iou(matrix), [3 / 4, 2 / 3], rtol=1e-6)


def test_counts_may_be_divided_by_their_sum():
    predictions, labels = pair((2, 24, 31))
    matrix = metrics.confusion_matrix(predictions, labels, CLASSES)
    np.testing.assert_allclose(metrics.iou(matrix / matrix.sum()), metrics.iou(matrix), rtol=1e-6)
    counts = metrics.boundary_counts(predictions, labels, CLASSES, tolerance=2)
    for ratio in (metrics.boundary_f1, metrics.boundary_iou):
        np.testing.assert_allclose(ratio(counts / counts.sum()), ratio(counts), rtol=1e-6)


def wide(values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("outside", [2**32 + 1, -(2**63), 2**63 - 1])
def test_64_bit_classes_do_not_wrap_around(outside):
    labels, predictions = wide([[0, 1, outside, 1]]), wide([[0, 1, 1, outside]])
    expected = [[1, 0], [0, 1]]
    np.testing.assert_array_equal(metrics.confusion_matrix(predictions, labels, 2), expected)
    with enable_x64():
        on_device = jnp.asarray(predictions), jnp.asarray(labels)
        assert on_device[0].dtype == np.int64
        np.testing.assert_array_equal(metrics.confusion_matrix(*on_device, 2), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_tolerance_reaches_no_further_than_the_image(shape):
    predictions, labels = pair(shape)
    across = float(np.linalg.norm(shape[1:]))
    near, far = (
        metrics.boundary_counts(predictions, labels, CLASSES, tolerance=tolerance)
        for tolerance in (across, 1e30)
    )
    np.testing.assert_array_equal(near, far)


if __name__ == "__main__":
    run(int(sys.argv[1]))

"""Integer labels of any width, and sums by label."""

from functools import partial

import numpy as np
import pytest
from compiling import quick_jit
from inputs import example

import rmi_jax
from rmi_jax.labels import class_sums, narrow, one_hot

DATA = example(2)
LABELS = np.array([[0, 2, -1, 1], [2, 2, 255, 3]], np.int32)  # of 3 classes


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64", "uint64"])
def test_what_is_no_class_stays_none(dtype):
    limits = np.iinfo(dtype)
    labels = np.array([limits.min, 0, 1, 2, 3, limits.max], dtype)
    found = np.asarray(narrow(labels, 3), "int64")
    # Of unsigned labels the smallest one is class 0.
    assert (found[0] == 0) if limits.min == 0 else (found[0] < 0)
    np.testing.assert_array_equal(found[1:4], [0, 1, 2])
    assert np.all(found[4:] >= 3)


def test_64_bit_labels_do_not_wrap_around():
    labels = np.array(DATA.labels, np.int64)
    labels[0, 1:3, 2:4] = [[2**32 + 1, 2**32], [-(2**63), 2**63 - 1]]
    narrow = np.where(np.abs(labels.astype(float)) > 2**31, -1, labels).astype("int32")
    # Not as arguments, which `jit` itself would narrow.
    run = quick_jit(lambda x: [rmi_jax.rmi_loss(x, y, factor=1) for y in (labels, narrow)])
    actual, expected = run(DATA.logits.astype("float32"))
    assert actual == expected


def test_one_hot_labels_of_8_bits_and_more_classes_than_those_hold():
    found = quick_jit(partial(one_hot, num_classes=300))(np.array([-1, 1, 127], "int8"))
    assert found.shape == (3, 300)
    np.testing.assert_array_equal(np.argwhere(found), [[1, 1], [2, 127]])


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_sums_by_label_leave_out_what_is_no_class(platform, take_choices_of):
    take_choices_of(platform)
    values = np.array([[1, 2, 4, 8], [16, 32, 64, 128]], "float32")
    found = quick_jit(partial(class_sums, classes=3))(values, LABELS)
    np.testing.assert_array_equal(found, [[1, 8, 2], [0, 0, 48]])

"""Which classes are visited, and in what order."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from compiling import quick_jit
from inputs import example
from terms import term_and_grads
from tolerances import assert_value

import rmi_jax
from rmi_jax.geometry import Maps, Regions, Scale
from rmi_jax.slots import Slots, by_class, make_slots

CLASSES = 5
# Class 1 is nowhere. The first image has 0 and 3, the second 0, 2 and 4, the third 2 alone.
LABELS = np.zeros((3, 6, 5), np.int32)
LABELS[0, 2:4, 1:3] = 3
LABELS[1, 1], LABELS[1, 4, 4] = 4, 2
LABELS[2] = 2


@pytest.fixture(params=["labels", "targets"])
def slots_of(request):
    """What is found for labels, or for the target maps that say the same."""

    def find(labels, weights=None, ignored="exclude", active=True):
        targets = labels if request.param == "labels" else oracle.one_hot(labels, CLASSES)[0]
        scale = Scale("identity", (1, 1), "avg", ignored, Regions((2, 2), (1, 1), (1, 1)))
        inputs = jnp.zeros((*labels.shape, CLASSES))
        maps = Maps(inputs, jnp.asarray(targets), weights, None, jnp.asarray(active))
        return quick_jit(partial(make_slots, scale=scale))(maps)

    return find


def visited(slots):
    """The classes that are visited in each image, in their order."""
    classes, varies = np.asarray(slots.classes).T, np.asarray(slots.varies).T
    assert slots.visits == varies.sum(axis=1).max()
    # A permutation of all classes, those that vary first.
    np.testing.assert_array_equal(np.sort(classes), np.tile(np.arange(CLASSES), (3, 1)))
    assert np.all(np.sort(varies)[:, ::-1] == varies)
    return [found[first].tolist() for found, first in zip(classes, varies, strict=True)]


def test_classes_that_are_absent_or_everywhere_are_passed_over(slots_of):
    assert visited(slots_of(LABELS)) == [[0, 3], [0, 2, 4], []]


def test_ignored_pixels_do_not_make_a_class_vary(slots_of):
    weights = np.ones(LABELS.shape, "float32")
    weights[0][LABELS[0] == 3] = 0  # what is left is 0 alone
    weights[1, 4, 4] = 0  # the only pixel of class 2
    assert visited(slots_of(LABELS, weights)) == [[], [0, 4], []]


def test_among_padded_zeros_a_class_that_is_there_varies(slots_of):
    assert visited(slots_of(LABELS, ignored="zero")) == [[0, 3], [0, 2, 4], [2]]


def test_nothing_is_visited_for_a_weight_of_0(slots_of):
    assert visited(slots_of(LABELS, active=False)) == [[], [], []]


def test_constant_target_maps_are_passed_over_and_nan_is_not():
    targets = np.full((1, 4, 4, 3), 0.3, "float32")
    targets[0, 1, 1, 1], targets[0, 2, 2, 2] = 0.3001, np.nan
    scale = Scale("identity", (1, 1), "avg", "exclude", Regions((2, 2), (1, 1), (1, 1)))
    probs = jnp.asarray(targets)
    maps = Maps(probs, probs, None, None, jnp.asarray(True))
    slots = quick_jit(partial(make_slots, scale=scale))(maps)
    np.testing.assert_array_equal(slots.classes[:, 0], [1, 2, 0])
    np.testing.assert_array_equal(slots.varies[:, 0], [True, True, False])


def test_values_go_back_to_their_classes():
    classes = np.array([[2, 0, 1], [1, 2, 0]], np.int32).T  # no permutation is its own inverse
    slots = Slots(jnp.asarray(classes), jnp.ones((3, 2), bool), jnp.int32(3))
    values = classes[..., None] + 10 * np.arange(4)
    expected = np.broadcast_to(np.arange(3) + 10 * np.arange(4)[:, None], (2, 4, 3))
    np.testing.assert_array_equal(by_class(jnp.asarray(values), slots), expected)


def test_classes_keep_their_order_whichever_are_present(x64):
    # Of three classes the first is absent: the two others move up by one, which is no exchange.
    data = example(1)
    targets = np.array(data.targets)
    targets[..., 0] = 0
    values, _ = term_and_grads(factor=1, region_size=2)(data.probs, targets)
    expected = oracle.region_loss(data.probs, targets, None, factor=1, region_size=2)
    assert_value(values, expected.loss, "float64")


def test_a_class_that_fills_the_image_varies_among_padded_zeros():
    # In the authors' way the windows count what is outside the image as zeros.
    data = example(1)
    labels = np.full_like(data.labels, 1)
    options = {"factor": 2, "ignored": "zero", "anchor": 0.01}
    expected = oracle.region_loss(data.probs, oracle.one_hot(labels, 3)[0], None, **options).loss
    assert np.all(expected[:, 1] > 0)

    @quick_jit
    def run(logits):
        loss = partial(rmi_jax.rmi_loss, activation="sigmoid", has_aux=True, **options)
        return loss(logits, labels)[1].rmi

    assert_value(run(data.logits.astype("float32")), expected.mean(axis=0), "float32")

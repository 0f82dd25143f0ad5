"""The cells of one class per image, and the way back to its pixels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from inputs import example

import rmi_jax
from rmi_jax import planes
from rmi_jax.activations import log_total
from rmi_jax.geometry import Maps, Regions, Scale

DATA = example(2)
CLASSES = np.array([2, 0])  # of each image
REGIONS = Regions((3, 3), (1, 1), (1, 1))


def view_of(logits, **options):
    scale = Scale("softmax", (2, 2), "avg", "exclude", REGIONS)
    maps = Maps(
        logits, jnp.asarray(DATA.labels), jnp.asarray(DATA.weights), None, jnp.asarray(True)
    )
    return planes.make_view(maps, log_total(logits), scale, logits.dtype, **options)


def cells_of_all(logits):
    """The same of all classes, written with what is public."""
    return rmi_jax.downsample(jax.nn.softmax(logits), 2, where=jnp.asarray(DATA.weights > 0))


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_cells_of_one_class_per_image(platform, take_choices_of, x64):
    """Read from its pixels on a CPU, and from the cells of all classes on an accelerator."""
    take_choices_of(platform)

    @quick_jit
    def run(logits):
        read = planes.read_cells(view_of(logits, pooled=True), jnp.asarray(CLASSES))
        return *read, cells_of_all(logits)

    probs, targets, expected = run(DATA.logits)
    truth = DATA.labels == CLASSES[:, None, None]
    valid = jnp.asarray(DATA.weights > 0)
    truth = rmi_jax.downsample(jnp.float64(truth)[..., None], 2, where=valid)[..., 0]
    for b, c in enumerate(CLASSES):
        np.testing.assert_allclose(probs[b], expected[b, ..., c], atol=1e-12)
        np.testing.assert_allclose(targets[b], truth[b], atol=1e-12)


def test_gradients_go_back_class_by_class_or_all_at_once(x64):
    """To the logits through the class itself, and through the sum over all classes."""

    @quick_jit
    def run(logits):
        view = view_of(logits)
        cells, pull = jax.vjp(cells_of_all, logits)
        gradient = jnp.asarray(np.random.default_rng(0).normal(size=cells.shape))
        inputs, totals = jnp.zeros_like(logits), []
        for c in range(3):
            classes = jnp.full(len(logits), c)
            plane = planes.read_planes(view, classes)
            by_class, by_total = plane.pull_probs(gradient[..., c])
            inputs = planes.put_class(inputs, classes, by_class, add=c == 1)
            totals.append(by_total)
        one_by_one = inputs, jax.tree.map(lambda *parts: sum(parts), *totals)
        return *pull(gradient), one_by_one, planes.pull_probs(view, gradient)

    expected, *ways = run(DATA.logits)
    (_, to_logits) = jax.vjp(log_total, DATA.logits)
    for inputs, total in ways:
        np.testing.assert_allclose(inputs + to_logits(total)[0], expected, atol=1e-12)


@pytest.mark.parametrize("add", [False, True])
def test_one_class_per_image_is_written(add):
    maps = np.random.default_rng(0).normal(size=(2, 4, 3, 3)).astype("float32")
    new = np.random.default_rng(1).normal(size=(2, 4, 3)).astype("float32")
    expected = maps.copy()
    for image, c, plane in zip(expected, CLASSES, new, strict=True):
        image[..., c] = plane + image[..., c] if add else plane
    found = quick_jit(partial(planes.put_class, add=add))(maps, CLASSES, new)
    np.testing.assert_array_equal(found, expected)

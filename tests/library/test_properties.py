"""What must hold for every input: searched by hypothesis, over options that are drawn as well.

A row is one choice of all options. It is compiled once and then meets many inputs. The rows of the
quick run are always the same. The long run, `pytest -m slow tests/library/test_properties.py`,
draws new ones every time; its seed is printed at the end and with a failure, and RMI_JAX_SEED
repeats it.
"""

import os
import zlib
from functools import partial
from types import SimpleNamespace
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import SEED, enable_x64, optimized_jit, quick_jit
from draws import TAME, TAME_LOGITS, arrays, recipes, table
from terms import term_and_grads
from tolerances import DIFFERENCE, assert_close

import rmi_jax

EXAMPLES, MANY = 50, 100  # of a row, in the quick run and in the long one


def rows(quick, slow, **narrowed):
    """Parametrizes a test by rows of the quick run and of the long one."""

    def parametrized(test):
        # Other rows and inputs for every test.
        seed = zlib.crc32(test.__name__.encode())
        drawn = table(slow, seed + int(os.environ[SEED]), **narrowed)
        chosen = [
            *table(quick, seed, first=True, **narrowed),
            *(pytest.param(r, marks=pytest.mark.slow) for r in drawn),
        ]
        return pytest.mark.parametrize("row", chosen, ids=map(str, range(quick + slow)))(test)

    return parametrized


@pytest.fixture
def search(request, record_property, row):
    """Runs ``check(recipe)`` on many recipes, with 64-bit types where the row asks for them."""

    usual = MANY if request.node.get_closest_marker("slow") else EXAMPLES

    def search(check, drawn=None, examples=usual):
        again = f"{SEED}={os.environ[SEED]} python -m pytest -m '' '{request.node.nodeid}'"
        ran = []

        @hypothesis.settings(max_examples=examples, deadline=None, database=None, print_blob=True)
        @hypothesis.seed(row.seed)
        @hypothesis.given(recipes() if drawn is None else drawn)
        def run(recipe):
            ran.append(recipe)
            hypothesis.note(f"{row}\nRun it again: {again}")
            check(recipe)

        with enable_x64(row.dtype == "float64"):
            run()
        record_property("examples", len(ran))

    return search


def geometry(row):
    names = "region_size", "dilation", "factor", "downsampling", "ignored", "region_stride"
    return {name: getattr(row, name) for name in (*names, "implementation")}


def objective(row):
    """``fn(logits, truth, traced) -> total, (loss, aux)``, and ``inputs(recipe, shape)`` of it."""
    soft = row.function == "soft_rmi_loss"
    wide = "float64" if row.dtype == "float64" else "float32"

    def loss_fn(logits, truth, traced):
        traced = {"bce_weight": 0.0, **traced}
        if row.axis != -1:
            logits = jnp.moveaxis(logits, -1, row.axis)
            truth = jnp.moveaxis(truth, -1, row.axis) if soft else truth
        result = getattr(rmi_jax, row.function)(
            logits,
            truth,
            activation=row.activation,
            zero_floor=row.zero_floor,
            reduction=row.reduction,
            has_aux=row.has_aux,
            axis=row.axis,
            **geometry(row),
            **traced,
        )
        loss, aux = result if row.has_aux else (result, None)
        return jnp.sum(loss), (loss, aux)

    def inputs(recipe, shape=row.shape):
        largest = 6e4 if row.dtype == "float16" else 1e30
        if row.dtype == "float64" and row.activation == "sigmoid" and not soft:
            largest = 1e6  # for rows that compare: on a CPU this cross entropy subtracts two sums
        data = arrays(recipe, shape, largest)
        traced: dict[str, Any] = {"jitter": recipe.jitter, "anchor": recipe.anchor}
        if not row.without_cross_entropy:
            traced["bce_weight"] = recipe.bce_weight
        for name, length in (("scale_weights", len(row.scales)), ("class_weights", shape[-1])):
            if getattr(row, name):
                traced[name] = getattr(recipe, name)[:length]
        if row.rmi_weight:
            traced["rmi_weight"] = recipe.rmi_weight
        traced = {name: np.asarray(value, wide) for name, value in traced.items()}
        if row.where:
            traced["where"] = data.mask if row.where == "mask" else data.weights.astype(wide)
        if row.region_key:
            traced["region_key"] = jax.random.key(recipe.seed)
        truth = data.targets.astype(wide) if soft else data.labels.astype(row.label_dtype)
        return data.logits.astype(jnp.dtype(row.dtype)), truth, traced

    return loss_fn, inputs


def value_and_grad(row, jit=quick_jit):
    loss_fn, inputs = objective(row)
    argnums = (0, 1) if row.function == "soft_rmi_loss" else (0,)
    return jit(jax.value_and_grad(loss_fn, argnums, has_aux=True)), inputs


def assert_same(actual, expected, **options):
    jax.tree.map(partial(assert_close, dtype="float64", **options), actual, expected)


def test_the_long_run_has_at_least_2000_examples():
    tests = [test for name, test in globals().items() if name.startswith("test_")]
    marks = [m for test in tests for m in getattr(test, "pytestmark", []) if m.args[0] == "row"]
    slow = sum(isinstance(row, type(pytest.param())) for mark in marks for row in mark.args[1])
    assert (slow - 1) * MANY >= 2000  # jit = eager has fewer


@pytest.mark.parametrize("flips", [False, True])
def test_every_seed_has_rows(flips):
    for seed in range(300):
        assert len(table(2, seed, flips=flips, downsampling=("avg", "max"))) == 2


# --- Values


@rows(2, 12)
def test_loss_and_gradient_are_finite(row, search, request):
    # The long run compiles as users do.
    slow = request.node.get_closest_marker("slow")
    run, inputs = value_and_grad(row, jit=optimized_jit if slow else quick_jit)
    # Heavy weights and a small jitter take a gradient out of the range of float16.
    wide = {"jitters": (5e-4, 1e-5, 1e4), "anchors": (0.0, 0.1, 1e6), "largest_weight": 1e3}
    drawn = recipes(**({} if row.dtype == "float16" else wide))

    def check(recipe):
        for leaf in jax.tree.leaves(run(*inputs(recipe))):
            assert np.all(np.isfinite(np.asarray(leaf, np.float64)))

    search(check, drawn)


@rows(1, 4)
def test_the_rmi_term_is_never_negative(row, search):
    options = geometry(row)

    @quick_jit
    def run(probs, targets, weights, jitter, anchor):
        return rmi_jax.region_information_loss(
            probs, targets, where=weights, jitter=jitter, anchor=anchor, **options
        )

    def check(recipe):
        data = arrays(recipe, row.shape)
        values = run(
            data.probs.astype(jnp.dtype(row.dtype)),
            data.targets.astype("float32"),
            data.weights.astype("float32"),
            recipe.jitter,
            recipe.anchor,
        )
        assert np.all(values >= 0)
        absent = ~np.any(data.targets, axis=tuple(range(1, row.ndim + 1)))
        assert np.all(values[absent] == 0)

    search(check)


@rows(1, 2, dtype=("float64",), has_aux=(True,))
def test_streaming_equals_patches(row, search):
    def built(implementation):
        return value_and_grad(SimpleNamespace(**{**vars(row), "implementation": implementation}))

    (streaming, inputs), (patches, _) = built("streaming"), built("patches")
    # The gradient of a maximum is not unique where pixels are equal. Where a jitter of 1e4 leaves
    # 1e-8 nats to know, the share of them that is known has half of its digits.
    no_ties = {"kinds": ("noise", "smooth"), "sizes": TAME} if row.downsampling == "max" else {}
    drawn = recipes(jitters=(5e-4, 1.0), **no_ties)

    def check(recipe):
        data = inputs(recipe)
        assert_same(streaming(*data), patches(*data))

    search(check, drawn)


# Without jit every loop is compiled again in every call. conformance/ has the quick test.
@rows(0, 1, dtype=("float64",), factor=(1, 2))
def test_jit_equals_eager(row, search):
    compiled, inputs = value_and_grad(row, jit=optimized_jit)
    eager, _ = value_and_grad(row, jit=lambda f: f)

    def check(recipe):
        data = inputs(recipe)
        assert_same(compiled(*data), eager(*data))

    search(check, examples=2)


@rows(1, 2, dtype=("float64",), downsampling=("avg", "interpolate"))
def test_gradient_equals_finite_differences(row, search):
    run, inputs = value_and_grad(row)

    def check(recipe):
        logits, truth, traced = inputs(recipe)
        rng = np.random.default_rng(recipe.seed)
        moving = [logits, truth] if row.function == "soft_rmi_loss" else [logits]
        directions = [rng.normal(size=m.shape) for m in moving]
        if len(moving) == 2:
            moving[1] = 0.1 + 0.8 * truth

        def loss(step):
            moved = [m + step * d for m, d in zip(moving, directions, strict=True)]
            return run(*moved, *([truth] if len(moved) == 1 else []), traced)

        step = 1e-5  # near a constant map the loss curves over sqrt(jitter / positions)
        one, two = ((loss(k * step)[0][0] - loss(-k * step)[0][0]) / (2 * k * step) for k in (1, 2))
        slope = sum(np.sum(g * d) for g, d in zip(loss(0)[1], directions, strict=True))
        assert_same(slope, (4 * one - two) / 3, table=DIFFERENCE)

    search(check, recipes(TAME_LOGITS, TAME, jitters=(5e-4, 1e-2, 1.0)))


# --- Images, classes and directions


def turned(row, recipe):
    """Flips some axes, transposes the others, and permutes images and classes, at random.

    Returns ``move(array)`` of what has pixels, with classes or without, and both permutations.
    """
    rng = np.random.default_rng(recipe.seed)
    flipped = 1 + np.flatnonzero(rng.integers(2, size=row.ndim))
    images, classes = rng.permutation(row.shape[0]), rng.permutation(row.shape[-1])

    def move(maps):
        maps = np.flip(np.asarray(maps), tuple(flipped.tolist()))[images]
        maps = maps[..., classes] if maps.ndim == row.ndim + 2 else maps
        return maps.transpose(0, *(1 + order(row)), *range(row.ndim + 1, maps.ndim))

    return move, images, classes


def order(row):
    return np.roll(np.arange(row.ndim), 1)


def transposed_options(row):
    def transposed(option):
        return option if isinstance(option, int) else tuple(option[axis] for axis in order(row))

    names = "region_size", "dilation", "region_stride"
    changes = {name: transposed(getattr(row, name)) for name in names}
    return {**changes, "factor": [transposed(f) for f in row.scales]}


# The whole loss, below, has the quick row.
@rows(0, 1, flips=True, dtype=("float64",), ndim=(2, 3), downsampling=("avg", "max"))
def test_flips_transposes_and_permutations_commute(row, search):
    plain = term_and_grads(**geometry(row))
    other = term_and_grads(**{**geometry(row), **transposed_options(row)})

    def check(recipe):
        data = arrays(recipe, row.shape)
        move, images, classes = turned(row, recipe)
        maps = data.probs, data.targets
        if row.downsampling == "max":  # whose gradient is not unique where pixels are equal
            rng = np.random.default_rng(recipe.seed)
            maps = (0.99 * m + 0.01 * rng.uniform(size=m.shape) for m in maps)
        maps = (*maps, data.weights)
        terms, grads = plain(*maps, recipe.jitter, recipe.anchor)
        expected = terms[images][:, classes], tuple(map(move, grads))
        assert_same(other(*map(move, maps), recipe.jitter, recipe.anchor), expected)

    search(check)


@rows(
    1,
    2,
    flips=True,
    dtype=("float64",),
    ndim=(2, 3),
    downsampling=("avg",),
    region_key=(False,),
    reduction=("none",),
    has_aux=(False,),
    class_weights=(True,),
)
def test_flips_transposes_and_permutations_commute_with_the_whole_loss(row, search):
    plain, inputs = value_and_grad(row)
    other, _ = value_and_grad(SimpleNamespace(**{**vars(row), **transposed_options(row)}))

    def check(recipe):
        logits, truth, traced = inputs(recipe)
        move, images, classes = turned(row, recipe)
        moved_truth = move(truth)
        if row.function == "rmi_loss":  # the class that was c is now where c went
            known = (moved_truth >= 0) & (moved_truth < row.shape[-1])
            moved_truth[known] = np.argsort(classes)[moved_truth[known]]
        moved = {**traced, "class_weights": traced["class_weights"][classes]}
        if row.where:
            moved["where"] = move(traced["where"])
        (_, (loss, _)), grads = plain(logits, truth, traced)
        (_, (moved_loss, _)), moved_grads = other(move(logits), moved_truth, moved)
        assert_same(moved_loss, loss[images])
        assert_same(moved_grads, tuple(map(move, grads)))

    search(check)


@rows(
    1,
    2,
    dtype=("float64",),
    where=("weights",),
    has_aux=(True,),
    reduction=("none",),
    zero_floor=(True,),
    rmi_weight=(True,),
    without_cross_entropy=(True,),
)
def test_images_without_present_classes_change_nothing(row, search):
    run, inputs = value_and_grad(row)
    images = row.shape[0]

    def check(recipe):
        logits, truth, traced = inputs(recipe, (images + 2, *row.shape[1:]))
        # A class that fills an image does not vary either, but for the zeros of ignored="zero".
        filled = row.ignored == "exclude" and recipe.seed % 2
        if filled:
            truth[images:] = truth[images:, *[slice(1)] * row.ndim]
        else:
            traced["where"][images:] = 0
        ((_, (loss, aux)), grads) = run(logits, truth, traced)
        traced["where"] = traced["where"][:images]
        ((_, (expected, expected_aux)), expected_grads) = run(
            logits[:images], truth[:images], traced
        )
        assert_same(loss[:images], expected)
        assert np.all(loss[images:] == 0)
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            assert_same(grad[:images], expected_grad)
            assert np.all(grad[images:] == 0)
        if not filled:  # the cross entropy is a mean over the pixels that are not ignored
            assert_same(aux.cross_entropy, expected_aux.cross_entropy)

    search(check)


# --- Ignored pixels


@rows(
    1,
    2,
    dtype=("float64",),
    factor=(1,),
    ignored=("exclude",),
    where=("weights",),
    region_key=(False,),
)
def test_masking_equals_cropping(row, search):
    run, inputs = value_and_grad(row)
    stride = np.broadcast_to(row.region_stride, row.ndim)
    outer = [n + 3 * k for n, k in zip(row.shape[1:-1], stride, strict=True)]

    def check(recipe):
        logits, truth, traced = inputs(recipe, (row.shape[0], *outer, row.shape[-1]))
        starts = stride * np.random.default_rng(recipe.seed).integers(4, size=row.ndim)
        inner = (
            slice(None),
            *(slice(a, a + n) for a, n in zip(starts, row.shape[1:-1], strict=True)),
        )
        outside = np.ones(logits.shape[:-1], bool)
        outside[inner] = False
        cropped = {**traced, "where": traced["where"][inner]}
        values, grads = run(logits[inner], truth[inner], cropped)
        # Ignored by their weight, or by their label where there are labels.
        if truth.ndim < logits.ndim and recipe.seed % 2:
            truth[outside] = -1 if row.label_dtype != "uint8" else 255
        else:
            traced["where"][outside] = 0
        whole_values, whole_grads = run(logits, truth, traced)
        assert_same(whole_values, values)
        for whole, part in zip(whole_grads, grads, strict=True):
            assert_same(whole[inner], part)
            assert np.all(whole[outside] == 0)

    search(check)

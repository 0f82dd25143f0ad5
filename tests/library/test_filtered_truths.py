"""Float32 is enough for every prediction that is the truth, filtered: the kind, not a case.

Bars, against float64 on the same float32 inputs: nothing that is not finite, values within 1e-4
nats per class, gradients within 1e-3 of the bound that holds for every input (docs/theory, F2).
"""

import os
import zlib
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import SEED, enable_x64, optimized_jit, quick_jit
from filtered import problem, shifts

import rmi_jax

BOUND = 1 / (2 * np.sqrt(5e-4))
VALUE, GRAD = 1e-4, 1e-3 * BOUND
ANCHORS = (0.0, 0.01, 0.1, 1.0)
# Set for all batches of each setting; otherwise there are a quarter, and one for each anchor.
FULL_SEARCH = "RMI_JAX_FULL_SEARCH"


def evaluate(runs, arrays, anchor, dtype):
    """Values ``[B, C]`` (or ``[B]``) and gradients of their sum, in NumPy float64."""
    with enable_x64(dtype == "float64"):
        inputs, *rest = (jnp.asarray(a, dtype if a.dtype == "float32" else None) for a in arrays)
        grads, values = runs[dtype](inputs, *rest, jnp.asarray(anchor, dtype))
        return np.asarray(values, np.float64), [np.asarray(g, np.float64) for g in grads]


def compiled(function, argnums):
    """By number type: as users compile it, and the reference in no hurry."""

    def loss_fn(inputs, *rest):
        values = function(inputs, *rest)
        return values.sum(), values

    run = jax.grad(loss_fn, argnums, has_aux=True)
    return {"float32": optimized_jit(run), "float64": quick_jit(run)}


def region_term(options):
    def term(probs, targets, weights, anchor):
        return rmi_jax.region_information_loss(
            probs, targets, where=weights, anchor=anchor, **options
        )

    return compiled(term, (0, 1))


def whole_loss(options):
    def loss(logits, labels, weights, anchor):
        return rmi_jax.rmi_loss(
            logits,
            labels,
            where=weights,
            anchor=anchor,
            bce_weight=0.0,
            rmi_weight=1.0,
            reduction="none",
            **options,
        )

    return compiled(loss, (0,))


def check(names, runs, arrays, anchor):
    values, grads = evaluate(runs, arrays, anchor, "float32")
    wide_values, wide_grads = evaluate(runs, arrays, anchor, "float64")
    classes = arrays[0].shape[-1] if values.ndim == 1 else 1
    off = np.abs(values - wide_values) / classes
    for i, name in enumerate(names):
        what = f"{name}, anchor {anchor}"
        assert np.isfinite(values[i]).all(), f"{what}: value is not finite"
        assert off[i].max() <= VALUE, f"{what}: value off by {off[i].max():.2g}"
        for grad, wide_grad in zip(grads, wide_grads, strict=True):
            assert np.isfinite(grad[i]).all(), f"{what}: gradient is not finite"
            each = np.moveaxis(grad[i] - wide_grad[i], -1, 0).reshape(*values.shape[1:], -1)
            worst = np.linalg.norm(each, axis=-1).max() / BOUND
            assert worst <= GRAD / BOUND, f"{what}: gradient off by {worst:.2g} of its bound"


def all_shifts(rng, maps, queue):
    """A confident prediction, misplaced by the next vector of the queue."""
    shift = queue.pop()
    confident = 1 / (1 + np.exp(-8 * (2 * np.roll(maps, shift, axis=(0, 1)) - 1)))
    return f"shifted by {shift}", confident.astype(np.float32)


@pytest.mark.parametrize("implementation", ["streaming", "patches"])
def test_every_shift_of_a_confident_prediction(implementation):
    vectors = shifts(2)
    if implementation == "patches":
        vectors = vectors[::4]
    rng = np.random.default_rng(0)
    drawn = problem(rng, len(vectors), (65, 65), 4, partial(all_shifts, queue=list(vectors)))
    term = region_term({"implementation": implementation})
    ones = np.ones_like(drawn.weights)
    for anchor in (0.0, 0.01):
        check(drawn.names, term, (drawn.probs, drawn.targets, ones), anchor)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_table_of_filters(activation):
    drawn = problem(np.random.default_rng(1), 32, (65, 65), 4)
    loss = whole_loss({"activation": activation})
    check(drawn.names, loss, (logits_of(drawn.probs, activation), drawn.labels, drawn.weights), 0.0)


def test_what_is_reported_does_not_depend_on_the_anchor():
    drawn = problem(np.random.default_rng(2), 16, (65, 65), 4)
    logits = logits_of(drawn.probs, "sigmoid")

    @optimized_jit
    def known(anchor):
        parts = rmi_jax.soft_rmi_loss(logits, drawn.targets, anchor=anchor, has_aux=True)[1]
        return parts.mutual_information

    np.testing.assert_allclose(known(0.01), known(0.0), atol=1e-4)


def logits_of(probs, activation):
    probs = probs.astype(np.float64)
    if activation == "softmax":
        return np.log(probs + 1e-9).astype(np.float32)
    return (np.log(probs + 1e-9) - np.log(1 - probs + 1e-9)).astype(np.float32)


class Setting(NamedTuple):
    """A shape and options that are compiled once, for several batches."""

    shape: tuple[int, ...]
    options: dict
    classes: int = 3
    batch: int = 16
    batches: int = 20
    activation: str | None = None  # None: the term alone, of probabilities


SETTINGS = {
    "binary": Setting((65, 65), {"region_size": 3}, classes=1, batch=32),
    "region 2": Setting((65, 65), {"region_size": 2}),
    "region 3": Setting((65, 65), {"region_size": 3}, batch=32),
    "region 4": Setting((65, 65), {"region_size": 4}),
    "region 5": Setting((65, 65), {"region_size": 5}),
    "dilation 2": Setting((65, 65), {"dilation": 2}),
    "wide": Setting((66, 97), {"region_size": (2, 4)}),
    "factor 2": Setting((66, 66), {"factor": 2}, batch=32),
    "three scales": Setting((65, 65), {"factor": (1, 2, 4)}),
    "thinned": Setting((65, 65), {"region_stride": 2}),
    "1-D": Setting((257,), {}, batch=64),
    "3-D, region 2": Setting((17, 18, 19), {"region_size": 2}),
    "3-D, region 3": Setting((15, 16, 17), {"region_size": 3}, batch=8, batches=8),
    "sigmoid": Setting((65, 65), {}, activation="sigmoid", batch=32),
    "softmax": Setting((65, 65), {}, activation="softmax", batch=32),
    "softmax, three scales": Setting((65, 65), {"factor": (1, 2, 4)}, activation="softmax"),
    "129 pixels": Setting((129, 129), {}, batch=8),
    "257 pixels": Setting((257, 257), {}, batch=4, batches=6),
    "513 pixels": Setting((513, 513), {}, batch=2, batches=4),
    "1025 pixels": Setting((1025, 1025), {}, batch=1, batches=4, classes=2),
}


def test_the_long_search_is_as_long_as_it_says():
    assert sum(s.batch * s.batches for s in SETTINGS.values()) >= 5000


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_every_filtered_truth(name, record_property):
    shape, options, classes, batch, batches, activation = SETTINGS[name]
    rng = np.random.default_rng([int(os.environ[SEED]), zlib.crc32(name.encode())])
    term = (
        region_term(options)
        if activation is None
        else whole_loss({**options, "activation": activation})
    )
    if not os.environ.get(FULL_SEARCH):
        batches = max(len(ANCHORS), batches // 4)
    for i in range(batches):
        drawn = problem(rng, batch, shape, max(classes, 2))
        weights = drawn.weights if rng.random() < 0.5 else (drawn.weights > 0).astype("float32")
        if rng.random() < 0.3:
            weights = np.ones_like(weights)
        if activation is None:
            arrays = drawn.probs[..., -classes:], drawn.targets[..., -classes:], weights
        else:
            arrays = logits_of(drawn.probs, activation), drawn.labels, weights
        check(drawn.names, term, arrays, ANCHORS[i % len(ANCHORS)])
    record_property("examples", batch * batches)

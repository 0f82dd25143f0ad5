"""One contract: what every implementation computes, against the oracle.

Statistics are float32 for every input narrower than float64, so the expected numbers are those of
the rounded inputs.
"""

import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from compiling import (
    IMPLEMENTATIONS,
    both_implementations,
    enable_x64,
    optimized_jit,
    quick_jit,
)
from inputs import example
from region_rows import ROWS, Row
from tolerances import assert_grad, assert_value

import rmi_jax

# Of the reference the quick run has a row of each option; the others are among the long tests.
REFERENCE = (
    "signal",
    "signal_max_stride",
    "raw",
    "thinned",
    "interpolate",
    "zero",
    "volume",
    "anchor",
)

CASES = [
    pytest.param(
        implementation,
        name,
        id=f"{implementation}-{name}",
        marks=pytest.mark.slow if implementation == "patches" and name not in REFERENCE else (),
    )
    for name in ROWS
    for implementation in IMPLEMENTATIONS
]


# Options that are no part of a row, and where they are compared.
ELSEWHERE = {
    "scale_weights": "test_identities.py, test_losses.py: the sum over scales",
    "region_key": "test_identities.py: the mean over the offsets",
    "axis": "test_identities.py: maps with the class axis elsewhere",
    "spatial_axis_name": "test_spatial_sharding.py: rows of an image on several devices",
    "where": "a row's mask",
    "implementation": "every row",
}


def test_every_option_has_a_row():
    options = inspect.signature(rmi_jax.region_information_loss).parameters
    known = {"probs", "targets", *ELSEWHERE, *(o for row in ROWS.values() for o in row.options)}
    assert set(options) == known


@pytest.mark.parametrize(("implementation", "name"), CASES)
def test_region_term(implementation, name):
    check_region_term(implementation, ROWS[name], quick_jit)


# The product of all that the rows pair, but for the dtypes that take the same path as another.
PRODUCT = itertools.product(
    (1, 2, 3),
    (("avg", 1), ("avg", 2), ("max", 2), ("interpolate", 2)),
    (None, "mask", "weights"),
    ("float32", "bfloat16"),
)
# An anchor in half of them: of any two that follow each other in one dtype, in one.
ANCHORS = (0.0, 0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ndim", "cells", "mask", "dtype", "anchor"),
    [(*row, ANCHORS[(i + i // 2) % 2]) for i, row in enumerate(PRODUCT)],
)
@both_implementations
def test_region_term_everywhere(ndim, cells, mask, dtype, anchor, implementation):
    downsampling, factor = cells
    options = {"downsampling": downsampling, "factor": factor, "anchor": anchor}
    options["region_size"] = 2 if ndim == 3 else 3
    check_region_term(implementation, Row(ndim, mask, options, dtype), optimized_jit)


def check_region_term(implementation, row, jit):
    arrays, expected = problem(row)
    with enable_x64(row.dtype == "float64"):
        check(jit(gradient(implementation, row.options))(*arrays), expected, row.dtype)


@pytest.mark.slow  # test_transforms.py has vmap and remat, one by one, in the quick run
@pytest.mark.parametrize("name", list(ROWS)[::2])
@both_implementations
def test_region_term_in_vmap_of_remat(name, implementation):
    row = ROWS[name]
    many, expected = zip(*(problem(row, seed) for seed in range(2)), strict=True)
    in_axes = (0, 0, None if row.mask is None else 0)
    with enable_x64(row.dtype == "float64"):
        run = jax.vmap(gradient(implementation, row.options, jax.checkpoint), in_axes)
        together = quick_jit(run)(*jax.tree.map(lambda *arrays: np.stack(arrays), *many))
    for i, one in enumerate(expected):
        check(jax.tree.map(lambda array, i=i: array[i], together), one, row.dtype)


def rounded(array, dtype):
    """The array in `dtype`, and the same numbers in float64."""
    narrow = np.asarray(array).astype(jnp.dtype(dtype))
    return narrow, narrow.astype(np.float64)


def problem(row, seed=0):
    """Probabilities, targets and weights in the row's dtype, and what the oracle says of them."""
    data = example(row.ndim, seed=seed)
    probs, wide_probs = rounded(data.probs, row.dtype)
    targets, wide_targets = rounded(data.targets, row.dtype)
    weights = row.mask and getattr(data, row.mask)
    if row.mask == "weights":
        weights = weights.astype("float32")
    expected = oracle.region_loss(wide_probs, wide_targets, weights, **row.per_axis_factor())
    return (probs, targets, weights), expected


def gradient(implementation, options, wrap=lambda function: function):
    def loss_fn(probs, targets, weights):
        values = rmi_jax.region_information_loss(
            probs, targets, where=weights, implementation=implementation, **options
        )
        return values.sum(), values

    return jax.grad(wrap(loss_fn), argnums=(0, 1), has_aux=True)


def check(actual, expected, dtype):
    (probs_grad, targets_grad), values = actual
    assert values.dtype == ("float64" if dtype == "float64" else "float32")
    assert probs_grad.dtype == targets_grad.dtype == dtype
    assert_value(values, expected.loss, dtype)
    assert_grad(probs_grad, expected.probs_grad, dtype)
    assert_grad(targets_grad, expected.targets_grad, dtype)


@pytest.mark.parametrize(
    "name", ["signal_cells", "thinned", "interpolate", "volume_uneven_cells", "anchor_raw"]
)
@both_implementations
def test_mutual_information(name, implementation, x64):
    row = ROWS[name]
    data = example(row.ndim)
    targets = np.array(data.targets)
    targets[1, ..., 2] = 1  # constant: nothing to know
    weights = None if row.mask is None else getattr(data, row.mask)
    expected = oracle.region_loss(data.probs, targets, weights, **row.per_axis_factor())
    options = {k: v for k, v in row.options.items() if k not in ("zero_floor", "anchor")}

    @quick_jit
    def information(probs, targets):
        return [
            rmi_jax.region_mutual_information(
                probs,
                targets,
                where=weights,
                normalize=normalize,
                implementation=implementation,
                **options,
            )
            for normalize in (False, True)
        ]

    plain, normalized = information(data.probs, targets)
    assert_value(plain, expected.information, "float64")
    assert_value(normalized, expected.normalized, "float64")
    if options.get("ignored") != "zero":
        assert plain[1, 2] == normalized[1, 2] == 0


@both_implementations
def test_a_region_key_shifts_the_grid_of_positions(implementation, x64):
    data = example(2)
    options: dict[str, Any] = {"factor": 1, "region_size": 2, "region_stride": 3}
    shifted = {
        (i, j): oracle.region_loss(data.probs[:, i:, j:], data.targets[:, i:, j:], **options).loss
        for i in range(3)
        for j in range(3)
    }

    @quick_jit
    def loss(key):
        return rmi_jax.region_information_loss(
            data.probs, data.targets, region_key=key, implementation=implementation, **options
        )

    seen = set()
    for seed in range(30):
        actual = loss(jax.random.key(seed))
        offset = min(shifted, key=lambda offset: np.abs(shifted[offset] - actual).max())
        assert_value(actual, shifted[offset], "float64")
        seen.add(offset)
    assert len(seen) > 6

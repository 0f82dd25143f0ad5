"""The oracle is right, and the library agrees with it on every option of the region term."""

import golden
import jax
import numpy as np
import oracle
import pytest
from compiling import both_implementations, quick_jit
from inputs import example
from tolerances import GOLDEN_GRAD, GOLDEN_VALUE, assert_grad, assert_value

import rmi_jax

# Name: (spatial axes, mask, options). Each option of the region term at least once for each N that
# it could treat differently; `conformance/test_values.py` crosses downsampling, masks and dtypes.
OPTIONS = {
    "signal_cells": (1, "mask", {"factor": 2, "region_size": 4}),
    "signal": (1, "weights", {"factor": 1, "region_size": 5, "dilation": 3}),
    "signal_max_stride": (
        1,
        None,
        {"factor": 3, "region_size": 2, "downsampling": "max", "region_stride": 2},
    ),
    "raw": (2, None, {"factor": 1, "jitter": 0.02, "zero_floor": False}),
    "uneven_region": (2, "weights", {"factor": 1, "region_size": (2, 3), "dilation": (3, 1)}),
    "thinned": (2, "mask", {"factor": 1, "region_size": 4, "region_stride": 2}),
    "uneven_stride": (2, None, {"factor": 1, "dilation": 2, "region_stride": (1, 3)}),
    "cells": (2, "weights", {"factor": 3, "region_size": 2}),
    "uneven_cells": (2, "mask", {"factor": ((1, 2),)}),
    "large_cells": (2, None, {"factor": 4, "region_size": 2}),
    "interpolate": (2, None, {"factor": 3, "region_size": 2, "downsampling": "interpolate"}),
    "zero": (2, "weights", {"factor": 2, "ignored": "zero"}),
    "zero_max": (
        2,
        "mask",
        {"factor": 3, "region_size": 2, "ignored": "zero", "downsampling": "max"},
    ),
    "zero_interpolate": (
        2,
        "mask",
        {"factor": 2, "ignored": "zero", "downsampling": "interpolate"},
    ),
    "volume": (3, "mask", {"factor": 1, "region_size": (1, 2, 3)}),
    "volume_uneven_cells": (3, "weights", {"factor": ((1, 2, 2),), "region_size": 2}),
    "volume_zero": (3, "weights", {"factor": 2, "region_size": 2, "ignored": "zero"}),
    "volume_region": (3, None, {"factor": 1, "region_size": 3}),
    "anchor": (1, None, {"factor": 1, "anchor": 0.3, "ignored": "zero"}),
    "anchor_thinned": (2, "weights", {"factor": 2, "anchor": 1.0, "region_stride": 2}),
    "anchor_raw": (2, "mask", {"factor": 1, "anchor": 0.01, "zero_floor": False}),
    "volume_anchor": (3, "weights", {"factor": 1, "anchor": 5.0, "region_size": 2, "dilation": 2}),
}


def _per_axis_factor(options):
    factor = options["factor"]
    return {**options, "factor": factor if isinstance(factor, int) else factor[0]}


@pytest.mark.parametrize("case", golden.CASES)
def test_the_oracle_reproduces_the_authors_code(case):
    logits, labels, loss, grad, options = golden.load(case)
    targets, valid = oracle.one_hot(labels, logits.shape[-1])
    terms, actual_grad = oracle.objective(logits, targets, valid, **options)
    size = max(1, abs(loss))
    assert_value(terms.mean() / size, loss / size, "float64", GOLDEN_VALUE)
    assert_grad(actual_grad, grad, "float64", GOLDEN_GRAD)


@pytest.mark.parametrize("case", list(OPTIONS)[::4])
def test_the_gradients_of_the_oracle_are_finite_differences(case):
    ndim, mask, options = OPTIONS[case]
    data = example(ndim)
    weights = mask and getattr(data, mask)
    options = _per_axis_factor(options)
    result = oracle.region_loss(data.probs, data.targets, weights, **options)
    rng = np.random.default_rng(1)
    step_p, step_y = rng.normal(size=(2, *data.probs.shape))
    step = 1e-6
    ends = [
        oracle.region_loss(
            data.probs + h * step_p, data.targets + h * step_y, weights, **options
        ).loss.sum()
        for h in (step, -step)
    ]
    slope = np.sum(result.probs_grad * step_p) + np.sum(result.targets_grad * step_y)
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-5)


@pytest.mark.parametrize("case", OPTIONS)
@both_implementations
def test_every_option_of_the_region_term(case, implementation, x64):
    ndim, mask, options = OPTIONS[case]
    data = example(ndim)
    weights = mask and getattr(data, mask)
    expected = oracle.region_loss(data.probs, data.targets, weights, **_per_axis_factor(options))

    def loss_fn(probs, targets):
        values = rmi_jax.region_information_loss(
            probs, targets, where=weights, implementation=implementation, **options
        )
        return values.sum(), values

    run = quick_jit(jax.grad(loss_fn, argnums=(0, 1), has_aux=True))
    (probs_grad, targets_grad), values = run(data.probs, data.targets)
    assert_value(values, expected.loss, "float64")
    assert_grad(probs_grad, expected.probs_grad, "float64")
    assert_grad(targets_grad, expected.targets_grad, "float64")


@pytest.mark.parametrize("case", list(OPTIONS)[::5])
@both_implementations
def test_mutual_information(case, implementation, x64):
    ndim, mask, options = OPTIONS[case]
    data = example(ndim)
    targets = np.array(data.targets)
    targets[1, ..., 2] = 1  # constant: nothing to know
    weights = mask and getattr(data, mask)
    expected = oracle.region_loss(data.probs, targets, weights, **_per_axis_factor(options))
    options = {k: value for k, value in options.items() if k not in ("zero_floor", "anchor")}

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
    options = {"factor": 1, "region_size": 2, "region_stride": 3}
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

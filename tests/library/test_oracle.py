"""The oracle is right. That the library agrees with it is in `conformance/test_values.py`."""

import golden
import numpy as np
import oracle
import pytest
from inputs import example
from region_rows import ROWS
from tolerances import GOLDEN_GRAD, GOLDEN_VALUE, assert_grad, assert_value


@pytest.mark.parametrize("case", golden.CASES)
def test_the_oracle_reproduces_the_authors_code(case):
    logits, labels, loss, grad, options = golden.load(case)
    targets, valid = oracle.one_hot(labels, logits.shape[-1])
    terms, actual_grad = oracle.objective(logits, targets, valid, **options)
    size = max(1, abs(loss))
    assert_value(terms.mean() / size, loss / size, "float64", GOLDEN_VALUE)
    assert_grad(actual_grad, grad, "float64", GOLDEN_GRAD)


@pytest.mark.parametrize(
    "name",
    ["signal_cells", "uneven_region", "uneven_cells", "zero_max", "volume_zero", "anchor_raw"],
)
def test_its_gradients_are_finite_differences(name):
    row = ROWS[name]
    data = example(row.ndim)
    weights = row.mask and getattr(data, row.mask)
    options = row.per_axis_factor()
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

"""The authors' own losses and gradients, reproduced by both implementations."""

import golden
import jax
import pytest
from compiling import quick_jit
from tolerances import GOLDEN_GRAD, GOLDEN_VALUE, assert_grad, assert_value

import rmi_jax


@pytest.mark.parametrize("case", golden.CASES)
@pytest.mark.parametrize(
    ("implementation", "dtype"),
    [
        ("streaming", "float32"),
        pytest.param("streaming", "float64", marks=pytest.mark.slow),
        pytest.param("patches", "float64", marks=pytest.mark.slow),
        pytest.param("patches", "float32", marks=pytest.mark.slow),
    ],
)
def test_reproduces_the_authors_code(case, dtype, implementation, precision):
    logits, labels, loss, grad, options = golden.load(case)

    def loss_fn(logits):
        return rmi_jax.rmi_loss(logits, labels, implementation=implementation, **options)

    actual, actual_grad = quick_jit(jax.value_and_grad(loss_fn))(logits.astype(dtype))
    assert actual.dtype == actual_grad.dtype == dtype
    size = max(1, abs(loss))
    assert_value(actual / size, loss / size, dtype, GOLDEN_VALUE)
    assert_grad(actual_grad, grad, dtype, GOLDEN_GRAD)

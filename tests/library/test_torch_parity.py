"""The RMI part against `rmi-pytorch`, an implementation by other hands.

It averages the cross entropy over classes, unlike the paper, so that part is left out
(`bce_weight=0`). Its padded zeros count in average pooling, as `ignored="zero"` has it.
"""

import jax
import numpy as np
import pytest
from compiling import quick_jit
from inputs import example
from tolerances import assert_grad, assert_value

import rmi_jax

torch = pytest.importorskip("torch", reason="needs the `torch` extra")
rmi = pytest.importorskip("rmi", reason="needs the `torch` extra")

pytestmark = pytest.mark.torch

# They add no 1e-6 to the probabilities, which only shows in cells that hold padded zeros.
VALUE = {"float64": 1e-5, "float32": 3e-5}
GRAD = {"float64": 1e-5, "float32": 1e-3}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("pool", "factor", "region_size"),
    [("max", 1, 3), ("max", 2, 3), ("max", 3, 2), ("avg", 2, 3), ("avg", 3, 3), ("avg", 4, 2)],
)
def test_region_part_agrees(pool, factor, region_size, dtype, implementation, precision):
    logits, _, _, labels, *_ = example(2, shape=(2, 26, 22, 3))
    targets = np.eye(3)[np.clip(labels, 0, 2)].astype(dtype)
    logits = logits.astype(dtype)

    module = rmi.RMILoss(
        with_logits=True,
        radius=region_size,
        bce_weight=0,
        pool=pool,
        stride=factor,
        use_log_trace=False,
        use_double_precision=True,
    )
    torch_logits = torch.tensor(logits.transpose(0, 3, 1, 2).astype("float64"), requires_grad=True)
    expected = module(torch_logits, torch.tensor(targets.transpose(0, 3, 1, 2)))
    expected.backward()
    expected_grad = torch_logits.grad.numpy().transpose(0, 2, 3, 1)

    def loss_fn(logits):
        return rmi_jax.soft_rmi_loss(
            logits,
            targets,
            bce_weight=0.0,
            anchor=0.0,
            factor=factor,
            region_size=region_size,
            downsampling=pool,
            ignored="zero",
            zero_floor=False,
            implementation=implementation,
        )

    actual, actual_grad = quick_jit(jax.value_and_grad(loss_fn))(logits)
    assert_value(actual, expected.item(), dtype, VALUE)
    assert_grad(actual_grad, expected_grad, dtype, GRAD)

"""Lowering for accelerators that are not at hand: TPU and CUDA programs of loss and gradient."""

import re

import jax
import pytest
from inputs import SHAPES
from jax import export

import rmi_jax


@pytest.mark.parametrize(
    ("ndim", "platform", "dtype"),
    [
        (2, "tpu", "bfloat16"),
        (2, "cuda", "float32"),
        (3, "tpu", "float32"),
        (3, "cuda", "bfloat16"),
    ],
)
def test_loss_and_gradient_lower(ndim, platform, dtype, implementation):
    def loss_fn(logits, labels, where, anchor):
        return rmi_jax.rmi_loss(
            logits,
            labels,
            where=where,
            anchor=anchor,
            factor=(1, 2),
            implementation=implementation,
        )

    shape = SHAPES[ndim]
    exported = export.export(jax.jit(jax.value_and_grad(loss_fn)), platforms=[platform])(
        jax.ShapeDtypeStruct(shape, dtype),
        jax.ShapeDtypeStruct(shape[:-1], "int32"),
        jax.ShapeDtypeStruct(shape[:-1], "float32"),
        jax.ShapeDtypeStruct((), "float32"),
    )
    assert exported.platforms == (platform,)
    loss, grad = exported.out_avals
    assert (loss.shape, loss.dtype) == ((), "float32")
    assert (grad.shape, grad.dtype) == (shape, dtype)

    program = exported.mlir_module()
    # Nothing depends on 64-bit floats, and no contraction is left at the device's own precision,
    # which is not float32 on TPU nor on recent GPUs.
    assert "f64" not in program
    contractions = re.findall(r"stablehlo\.(?:dot_general|convolution).*", program)
    assert contractions
    means = 0
    for line in contractions:
        if "stablehlo.convolution" in line:
            # Patches: the second operand is a kernel of zeros and ones, exact at any precision.
            assert re.search(r"precision_config = \[#stablehlo<precision HIGHEST>", line), line
        else:
            # Only the windows of a TPU's mean, zeros and ones, are exact at any precision.
            windows = re.search(r"HIGHEST, DEFAULT\] : \(\S+, tensor<\d+x\d+xf32>\)", line)
            means += windows is not None
            assert windows or line.count("HIGHEST") == 2, line
    assert (means > 0) == (platform == "tpu")
    # Host callbacks and library calls would tie the program to one platform.
    assert "custom_call" not in re.sub(r"stablehlo\.custom_call @(?:Sharding|SPMD)\w*", "", program)

"""What accelerators compute in their own way, run here, against what the CPU computes."""

import jax
import jax.numpy as jnp
import pytest
from compiling import quick_jit
from inputs import example
from tolerances import assert_grad, assert_value

import rmi_jax

DATA = example(2)
LOGITS = DATA.logits.astype("float32")
TARGETS = DATA.targets.astype("float32")

OBJECTIVES = {
    "cells": ("labels", None, {"factor": 2}),
    "softmax cells": ("labels", "weights", {"factor": 2, "activation": "softmax"}),
    "thinned": ("targets", "weights", {"factor": 1, "region_stride": 2}),
    "weights": ("labels", "weights", {"factor": 1, "activation": "softmax", "region_size": 2}),
    "scales": ("labels", "weights", {"factor": (2, 3), "activation": "softmax", "region_size": 2}),
}


def loss_and_grad(kind, mask, options, logits=LOGITS):
    loss = rmi_jax.rmi_loss if kind == "labels" else rmi_jax.soft_rmi_loss
    targets = DATA.labels if kind == "labels" else TARGETS

    def loss_fn(logits):
        where = mask and getattr(DATA, mask)
        terms = loss(logits, targets, where=where, reduction="none", **options)
        return jnp.sum(terms * jnp.arange(1, 3, dtype=terms.dtype)), terms

    (_, value), grad = quick_jit(jax.value_and_grad(loss_fn, has_aux=True))(logits)
    return value, grad


@pytest.mark.parametrize("case", OBJECTIVES)
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_compute_the_same_loss(case, platform, take_choices_of):
    value, grad = loss_and_grad(*OBJECTIVES[case])
    choices = take_choices_of(platform)
    other_value, other_grad = loss_and_grad(*OBJECTIVES[case])
    assert choices, "nothing was computed in another way"
    assert_value(other_value, value, "float32")
    assert_grad(other_grad, grad, "float32")


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_accelerators_compute_the_same_cross_entropy(activation, take_choices_of, x64):
    options = {"bce_weight": 1.0, "activation": activation}
    value, grad = loss_and_grad("labels", "weights", options, DATA.logits)
    choices = take_choices_of("cuda")
    other_value, other_grad = loss_and_grad("labels", "weights", options, DATA.logits)
    assert choices, "nothing was computed in another way"
    assert_value(other_value, value, "float64")
    assert_grad(other_grad, grad, "float64")

"""What is compiled: loss and gradient, on logits of a batch that keeps an accelerator busy."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

SHAPE = (16, 513, 513, 21)  # of PASCAL VOC as the paper trains it
VISITS = (5, 21)  # classes visited per image, which the compiled program does not tell

# Functions whose loops turn another number of times than there are classes visited: one pass, and
# no class that it does not settle, as in most batches. (The inner one first.)
_TRIPS = {"_measure_again": 0, "factored": 1}


class Case(NamedTuple):
    options: dict[str, Any] | None  # of rmi_loss; None: cross entropy by Optax
    dtype: str = "float32"
    bar: Mapping[str, float] = MappingProxyType({})  # times Optax, at the fewest visits

    @property
    def name(self) -> str:
        if self.options is None:
            return "Optax's sigmoid cross entropy"
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return options if self.dtype == "float32" else f"{options}, {self.dtype}"


def _factor(factor: int, activation: str, bar: Mapping[str, float], dtype: str = "float32") -> Case:
    return Case({"factor": factor, "activation": activation}, dtype, bar)


_FOUR = {"tpu": 12, "cuda": 4}
_ONE = {"tpu": 40, "cuda": 15}
CASES = {
    "optax": Case(None),
    "ce-sigmoid": Case({"bce_weight": 1.0, "activation": "sigmoid"}, bar={"tpu": 1.2, "cuda": 1.2}),
    "ce-softmax": Case({"bce_weight": 1.0, "activation": "softmax"}),
    "four-sigmoid": _factor(4, "sigmoid", _FOUR),
    "four-softmax": _factor(4, "softmax", {k: 1.5 * v for k, v in _FOUR.items()}),
    "one-sigmoid": _factor(1, "sigmoid", _ONE),
    "one-softmax": _factor(1, "softmax", {k: 1.5 * v for k, v in _ONE.items()}),
    "four-bfloat16": _factor(4, "sigmoid", _FOUR, "bfloat16"),
    "one-bfloat16": _factor(1, "sigmoid", _ONE, "bfloat16"),
}


def trips(visits: int) -> Callable[[tuple[str, ...]], int]:
    """Turns of the loops whose number depends on the labels."""
    return lambda functions: next((n for f, n in _TRIPS.items() if f in functions), visits)


def function(case: Case) -> Callable[[Any, Any], Any]:
    """The loss of logits and labels."""
    import jax
    import jax.numpy as jnp
    import optax

    import rmi_jax

    def cross_entropy(logits, labels):
        targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return jnp.mean(jnp.sum(optax.sigmoid_binary_cross_entropy(logits, targets), axis=-1))

    if case.options is None:
        return cross_entropy
    # Written out, so that figures stay comparable whatever the library's defaults become.
    options = {"activation": "sigmoid", "anchor": 0.0, **case.options}
    return lambda logits, labels: rmi_jax.rmi_loss(logits, labels, **options)

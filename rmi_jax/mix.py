"""How the two parts of the objective are mixed: options that are checked in one place."""

from typing import Any, NamedTuple

import jax

from rmi_jax import array_checks, checks


class Mix(NamedTuple):
    """How the two parts of the objective are weighted and reported."""

    bce_weight: float | jax.Array
    rmi_weight: float | jax.Array | None
    class_weights: jax.Array | None
    zero_floor: bool
    reduction: str
    has_aux: bool
    axis_name: str | tuple[str, ...] | None


def part_weights(mix: Mix, classes: int) -> tuple[Any, Any, Any]:
    """Checked weights of the cross entropy, of the RMI term and of the classes."""
    checks.scalar("bce_weight", mix.bce_weight)
    checks.boolean("zero_floor", mix.zero_floor)
    checks.boolean("has_aux", mix.has_aux)
    checks.one_of("reduction", mix.reduction, ("mean", "none"))
    checks.mapped_axes("axis_name", mix.axis_name)
    if mix.rmi_weight is not None:
        checks.scalar("rmi_weight", mix.rmi_weight)
        rmi_weight = mix.rmi_weight
    else:
        array_checks.at_most_one("bce_weight", mix.bce_weight, "or pass rmi_weight as well")
        rmi_weight = 1 - mix.bce_weight
    if mix.class_weights is None:
        return mix.bce_weight, rmi_weight, 1
    checks.vector("class_weights", mix.class_weights, classes, "one per class")
    return mix.bce_weight, rmi_weight, mix.class_weights

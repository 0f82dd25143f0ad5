"""Predicted and true class maps, as the metrics take them."""

import jax
import jax.numpy as jnp

from rmi_jax import checks
from rmi_jax.dtypes import Array
from rmi_jax.labels import check_labels, narrow


def pair(
    predictions: Array, labels: Array, num_classes: int, where: Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Checks the arguments that metrics share; returns both maps as int32, and the valid pixels."""
    both = {"predictions": predictions, "labels": labels}
    for name, value in both.items():
        checks.array(name, value)
    # Of two maps the one with more axes is called wrong.
    reference = "labels" if labels.ndim <= predictions.ndim else "predictions"
    for name, value in both.items():
        check_labels(
            name,
            value,
            both[reference].shape,
            f"the shape of {reference}",
            for_probabilities="for scores take jnp.argmax over the class axis",
        )
    if labels.ndim < 2 or 0 in labels.shape:
        raise ValueError(
            f"labels must have shape [batch, *spatial] without an empty axis, got {labels.shape}"
        )
    predictions, labels = (
        narrow(maps, num_classes).astype(jnp.int32) for maps in (predictions, labels)
    )
    valid = (labels >= 0) & (labels < num_classes)
    if where is None:
        return predictions, labels, valid
    checks.mask("where", where, labels.shape)
    return predictions, labels, valid & where

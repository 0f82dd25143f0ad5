"""The cross-entropy half of the objective.

Written out rather than taken from Optax: for integer labels no one-hot array is formed, which
takes a fraction of the time and of the memory (benchmarks/).
"""

import jax
import jax.numpy as jnp
from jax import lax

from rmi_jax.activations import log_total, normalized, sigmoid, softplus
from rmi_jax.cells import zeroed
from rmi_jax.dtypes import compute_dtype
from rmi_jax.labels import class_sums, one_hot


def cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    pixel_weights: jax.Array | None,
    activation: str,
    axis_name: str | tuple[str, ...] | None,
    spatial_axis_name: str | None = None,
) -> jax.Array:
    """Cross entropy in nats per image and class, over (sum of pixel weights + 1).

    Args:
      logits: ``[B, *S, C]``; what they hold where ignored does not matter.
      targets: integer labels ``[B, *S]`` or target maps ``[B, *S, C]``.
      pixel_weights: ``[B, *S]``, 0 where ignored; None if all are 1.
      activation: ``"sigmoid"`` or ``"softmax"``.
      axis_name: mapped axis that shards the batch; the normalizer is summed over it.
      spatial_axis_name: mapped axis that shards the pixels of each image.

    Returns:
      ``[B, C]``: its sum over classes, averaged over the images, is the paper's scalar.
    """
    dtype = compute_dtype(logits.dtype)
    logits = logits.astype(dtype)
    if pixel_weights is None:
        pixel_weights = jnp.ones(logits.shape[:-1], dtype)
    images, total = jnp.asarray(logits.shape[0], dtype), jnp.sum(pixel_weights)
    if axis_name is not None:
        images, total = lax.psum((images, total), axis_name)
    if spatial_axis_name is not None:
        total = lax.psum(total, spatial_axis_name)
    # Divided before anything is summed: for the largest logits allowed a sum overflows float32.
    share = pixel_weights * (images / (total + 1))

    if targets.ndim < logits.ndim:
        per_class = _sigmoid_labels if activation == "sigmoid" else _softmax_labels
        entropy = per_class(logits, targets, share)
    else:
        logits, targets = (zeroed(maps, share) for maps in (logits, targets))
        per_class = _sigmoid_targets if activation == "sigmoid" else _softmax_targets
        entropy = _image_sums(per_class(logits, targets), share)
    return entropy if spatial_axis_name is None else lax.psum(entropy, spatial_axis_name)


def _sigmoid_targets(logits: jax.Array, targets: jax.Array) -> jax.Array:
    return softplus(logits) - _if_any(targets, logits)


def _softmax_targets(logits: jax.Array, targets: jax.Array) -> jax.Array:
    largest, log_sum = log_total(logits)
    return _if_any(targets, log_sum[..., None] - (logits - largest[..., None]))


def _if_any(targets: jax.Array, values: jax.Array) -> jax.Array:
    """``targets * values``, 0 where a target of 0 meets the infinity of a class ruled out."""
    return targets * jnp.where((targets == 0) & jnp.isinf(values), 0, values)


def _image_sums(maps: jax.Array, share: jax.Array) -> jax.Array:
    return jnp.sum(maps * share[..., None], axis=tuple(range(1, maps.ndim - 1)))


def _is_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return one_hot(labels, logits.shape[-1]).astype(logits.dtype)


# For integer labels a CPU gathers the logits at the labels. On an accelerator gathers are slow, so
# there every class is compared with the label, in one expression that XLA fuses. The derivatives
# are written by hand in that second form: the transpose of a gather is a scatter, and the sum of
# two gradients would take two arrays of the size of the logits.


def _at_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.take_along_axis(logits, labels[..., None], axis=-1, mode="clip")[..., 0]


def _by_class(losses: jax.Array, labels: jax.Array, share: jax.Array, classes: int) -> jax.Array:
    return class_sums(jnp.where(share > 0, losses * share, 0), labels, classes)


@jax.custom_jvp
def _sigmoid_labels(logits: jax.Array, labels: jax.Array, share: jax.Array) -> jax.Array:
    def gather(logits, labels, share):
        at_labels = _by_class(_at_label(logits, labels), labels, share, logits.shape[-1])
        return _image_sums(zeroed(softplus(logits), share), share) - at_labels

    def compare(logits, labels, share):  # softplus(l) - l = softplus(-l)
        signed = jnp.where(_is_label(logits, labels), -logits, logits)
        return _image_sums(zeroed(softplus(signed), share), share)

    return lax.platform_dependent(logits, labels, share, cpu=gather, default=compare)


@_sigmoid_labels.defjvp
def _sigmoid_labels_jvp(primals, tangents):
    logits, labels, share = primals
    slope = zeroed(sigmoid(logits) - _is_label(logits, labels), share)
    return _sigmoid_labels(*primals), _image_sums(slope * tangents[0], share)


@jax.custom_jvp
def _softmax_labels(logits: jax.Array, labels: jax.Array, share: jax.Array) -> jax.Array:
    def gather(logits, labels, share, largest, log_sum):
        losses = log_sum - (_at_label(logits, labels) - largest)
        return _by_class(losses, labels, share, logits.shape[-1])

    def compare(logits, labels, share, largest, log_sum):
        losses = log_sum[..., None] - (logits - largest[..., None])
        return _image_sums(zeroed(jnp.where(_is_label(logits, labels), losses, 0), share), share)

    total = log_total(logits)
    return lax.platform_dependent(logits, labels, share, *total, cpu=gather, default=compare)


@_softmax_labels.defjvp
def _softmax_labels_jvp(primals, tangents):
    logits, labels, share = primals
    # Not `softmax`: compilers would keep its exponentials from the forward to the backward pass.
    slope = normalized(logits, log_total(logits)) - _is_label(logits, labels)
    slope = zeroed(slope, share)
    tangent = jnp.sum(slope * tangents[0], axis=-1)
    return _softmax_labels(*primals), class_sums(tangent * share, labels, logits.shape[-1])

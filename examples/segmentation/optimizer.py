"""Gradient transformations of train.py, out of Optax's parts."""

import jax.numpy as jnp
import optax

from segmentation.config import Config
from segmentation.models import Arrays

MOMENTUM = 0.9


def learning_rate(config: Config) -> optax.Schedule:
    """Polynomial decay to 0, after an optional linear rise."""
    decay = optax.polynomial_schedule(
        config.learning_rate, 0.0, config.power, max(config.steps - config.warmup_steps, 1)
    )
    if not config.warmup_steps:
        return decay
    rise = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([rise, decay], [config.warmup_steps])


def make(config: Config) -> optax.GradientTransformation:
    schedule = learning_rate(config)
    steps = []
    if config.clip is not None:
        steps.append(optax.clip_by_global_norm(config.clip))
    if config.optimizer == "sgd":  # decay before momentum, as in PyTorch
        steps.append(optax.add_decayed_weights(config.weight_decay, mask=kernels))
        steps.append(optax.sgd(schedule, momentum=MOMENTUM))
    else:
        steps.append(optax.adamw(schedule, weight_decay=config.weight_decay, mask=kernels))
    if config.head_rate != 1:
        steps.append(optax.masked(optax.scale(config.head_rate), heads))
    return optax.chain(*steps)


def kernels(params: Arrays) -> dict[str, bool]:
    return {name: jnp.ndim(value) > 1 for name, value in params.items()}


def heads(params: Arrays) -> dict[str, bool]:
    return {name: not name.startswith("backbone.") for name in params}

"""What is trained, and one step of training."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from segmentation import checkpoints, objective, optimizer
from segmentation.config import Config
from segmentation.models import Arrays, Network, Weights


class State(NamedTuple):
    """All that a run needs to go on, except its place in the data."""

    step: jax.Array  # int32, updates so far
    weights: Weights
    optimizer: Any
    average: Weights | None  # moving average of the weights
    key: jax.Array  # raw data of the random key for the next step


class Metrics(NamedTuple):
    """Of one step; arrays ``[C]`` in `parts`."""

    loss: jax.Array
    gradient_norm: jax.Array
    finite: jax.Array  # whether the loss and the new parameters are
    parts: objective.LossParts


def start(config: Config, network: Network) -> State:
    weights = network.weights
    return State(
        jnp.zeros((), jnp.int32),
        weights,
        optimizer.make(config).init(weights.params),
        None if config.ema is None else jax.tree.map(jnp.copy, weights),
        jax.random.key_data(jax.random.key(config.seed)),
    )


def evaluated(state: State) -> Weights:
    """The weights to predict with."""
    return state.weights if state.average is None else state.average


def items(state: State) -> dict[str, Any]:
    """The state as items of a checkpoint."""
    training = {"step": state.step, "optimizer": state.optimizer, "key": state.key}
    found = {checkpoints.WEIGHTS: state.weights, checkpoints.TRAINING: training}
    return found if state.average is None else found | {checkpoints.AVERAGE: state.average}


def from_items(found: dict[str, Any]) -> State:
    average = found.get(checkpoints.AVERAGE)
    return State(weights=found[checkpoints.WEIGHTS], average=average, **found[checkpoints.TRAINING])


def make(config: Config, network: Network) -> Callable[..., tuple[State, Metrics]]:
    """``(state, images, labels) -> (state, metrics)``, compiled; reuses the old state's memory."""
    transformation, loss_of = optimizer.make(config), objective.make(config)
    parts_count = config.accumulate

    def gradient(weights: Weights, images, labels, key, step, share=1):
        def loss_and_rest(params: Arrays):
            logits, statistics = network.train(weights._replace(params=params), images, key)
            loss, parts = loss_of(logits, labels, step, share)
            return loss, (parts, statistics)

        (loss, (parts, statistics)), grads = jax.value_and_grad(loss_and_rest, has_aux=True)(
            weights.params
        )
        return grads, statistics, loss, parts

    def accumulated(weights: Weights, images, labels, key, step):
        """Over parts of the batch, one after the other; each takes some of every device's images.

        The loss is that of the whole batch, given the logits. What a network with batch
        normalization makes of a part depends on that part alone.
        """

        def cut(array):
            return array.reshape(-1, parts_count, *array.shape[1:]).swapaxes(0, 1)

        def add(carry, part):
            total, statistics = carry
            images, labels, key, share = part
            grads, statistics, loss, parts = gradient(
                weights._replace(statistics=statistics), images, labels, key, step, share
            )
            return (jax.tree.map(jnp.add, total, grads), statistics), (loss, parts)

        zeros = jax.tree.map(jnp.zeros_like, weights.params)
        images, labels = cut(images), cut(labels)
        keys = jax.random.split(key, parts_count)
        shares = objective.shares(labels)
        (total, statistics), (losses, parts) = jax.lax.scan(
            add, (zeros, weights.statistics), (images, labels, keys, shares)
        )
        grads = jax.tree.map(lambda g: g / parts_count, total)
        return grads, statistics, losses.mean(), objective.mean(parts)

    def update(state: State, images: jax.Array, labels: jax.Array):
        key, next_key = jax.random.split(jax.random.wrap_key_data(state.key))
        compute = gradient if parts_count == 1 else accumulated
        grads, statistics, loss, parts = compute(state.weights, images, labels, key, state.step)
        changes, memory = transformation.update(grads, state.optimizer, state.weights.params)
        params = cast(Arrays, optax.apply_updates(state.weights.params, changes))
        weights, average = Weights(params, statistics), state.average
        if average is not None and config.ema is not None:
            average = cast(Weights, optax.incremental_update(weights, average, 1 - config.ema))
        finite = jax.tree.map(lambda a: jnp.all(jnp.isfinite(a)), (loss, weights))
        metrics = Metrics(
            loss, optax.tree.norm(grads), jnp.all(jnp.array(jax.tree.leaves(finite))), parts
        )
        data = jax.random.key_data(next_key)
        return State(state.step + 1, weights, memory, average, data), metrics

    return jax.jit(update, donate_argnums=0)

"""The training loop."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax

from segmentation import (
    checkpoints,
    evaluation,
    hosts,
    identity,
    models,
    ownership,
    pipeline,
    preflight,
    report,
    step,
    windows,
    writing,
)
from segmentation.config import Config, refuse_others, settle, to_dict
from segmentation.dataset import Dataset
from segmentation.models import pretrained
from segmentation.watch import Watch, watching


class Stopped(RuntimeError):
    """The run cannot go on. The message says why, and which checkpoint is the last."""


class NotFinite(RuntimeError):
    """The loss or a parameter is infinite or NaN."""


def run(config: Config) -> None:
    train, test = (
        preflight.opened(config, split) for split in (config.train_split, config.eval_split)
    )
    if hosts.is_first():
        for line in dict.fromkeys((*train.left_out, *test.left_out)):
            print(line, flush=True)
    preflight.check(config, train, test)
    folder, identity_now = config.output, identity.of(config, train)
    try:
        # The first process speaks for all: when it stops, the others notice that it is gone.
        with ownership.claimed(folder) if hosts.is_first() else nullcontext():
            before = checkpoints.record(folder / "checkpoints")
            if before is not None:
                refuse_others(before["options"], config, folder)
                identity_now = identity.continued(before["identity"], identity_now, folder)
            if hosts.is_first():
                settle(config, folder)
                describe(train, folder)
            network = models.build(
                config.model,
                len(train.classes),
                backbone=config.backbone,
                dtype=config.dtype,
                seed=config.seed,
            )
            if config.weights is not None and before is None:
                weights = pretrained.load(network.weights, config.weights)
                network = network._replace(weights=weights)
            with checkpoints.opened(folder / "checkpoints", config.keep) as manager:
                described = {"options": to_dict(config), "identity": identity_now}
                proceed(config, network, train, test, manager, described)
    except (checkpoints.SaveError, OSError) as error:
        raise Stopped(f"Could not write to {folder}: {error}\n{left(folder)}") from error
    except checkpoints.Unreadable as error:
        raise Stopped(
            f"{error}\nBring back a whole one, or choose another --output to begin anew."
        ) from error
    except NotFinite as error:
        advice = "A lower --learning-rate, --warmup-steps or --clip 1 may help, in a new --output."
        raise Stopped(f"{error}\n{left(folder)}\n{advice}") from error


def proceed(
    config: Config,
    network: models.Network,
    train: Dataset,
    test: Dataset,
    manager: Any,
    described: dict[str, Any],
) -> None:
    """From the last checkpoint, or the beginning, to the end."""
    folder, classes = config.output, train.classes
    placement = hosts.placement(config.batch, config.accumulate)
    state = jax.device_put(step.start(config, network), placement.everywhere)
    batches = pipeline.train_batches(
        train,
        batch=config.batch // jax.process_count(),
        crop=config.crop,
        seed=config.seed,
        scale_range=config.scale,
        workers=config.workers,
        shard=hosts.shard(),
    )
    found = checkpoints.restore(manager, step.items(state))
    if found is not None:
        checkpoints.set_aside(manager, found)
        state = step.from_items(found.items)
        batches.set_state(found.position)
    done = int(state.step)
    update = step.make(config, network)
    predictor = windows.predictor(network, config.crop, config.eval_batch)

    with watching(config, classes, folder, done) as watch:
        if found is not None:
            watch.say(f"going on from step {done}{checkpoints.listed(found.damaged)}")
        pending: list[step.Metrics] = []
        while done < config.steps:
            batch = next(batches)
            arrays = (
                jax.make_array_from_process_local_data(placement.spread, batch[name])
                for name in ("image", "labels")
            )
            state, metrics = update(state, *arrays)
            done += 1
            pending.append(metrics)
            is_last = done == config.steps
            saves = is_last or done % config.save_every == 0
            if saves or done % config.log_every == 0:
                report_steps(done, jax.device_get(pending), watch)
                pending = []
            watch.advance(done)
            # Before the checkpoint: a run that goes on from it has this evaluation behind it.
            if done % config.eval_every == 0 and not is_last:
                assess(predictor(step.evaluated(state)), done, test, watch)
            if saves:
                checkpoints.save(manager, done, step.items(state), batches.get_state(), described)
        checkpoints.finish(manager)
        result = assess(predictor(step.evaluated(state)), done, test, watch)
        if hosts.is_first():
            report.write(folder / "report.html", config, test, watch.records, result)
            watch.say(f"report: {folder / 'report.html'}")


def report_steps(done: int, metrics: list[step.Metrics], watch: Watch) -> None:
    """Logs the last steps. Raises if a number is not finite, before a checkpoint holds it."""
    for number, values in enumerate(metrics, start=done - len(metrics) + 1):
        if not values.finite:
            raise NotFinite(
                f"Step {number}: the loss is {values.loss}, the norm of the gradient "
                f"{values.gradient_norm}."
            )
    watch.trained(done, metrics)


def assess(
    predict: windows.Predict, done: int, test: Dataset, watch: Watch
) -> evaluation.Evaluation:
    result = evaluation.evaluate(predict, test)
    watch.evaluated(done, result)
    watch.pictures(done, result, test.colours)
    return result


def describe(dataset: Dataset, folder: Path) -> None:
    """What predict.py needs to know beside the options."""
    text = {"classes": list(dataset.classes), "colours": dataset.colours.tolist()}
    writing.write_whole(folder / "classes.json", json.dumps(text, indent=1))


def left(folder: Path) -> str:
    steps = checkpoints.steps(folder / "checkpoints")
    if not steps:
        return "There is no checkpoint yet."
    return f"The last good checkpoint is step {max(steps)} in {folder / 'checkpoints'}."

"""One run, and the runs that a file of records lacks.

For each seed, every loss starts from the same weights and sees the same batches for the same number
of steps.
"""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import quickstart
from quickstart import Objective

import rmi_jax
from segmentation import baselines, satellite
from segmentation.models.unet import UNet
from studies import records

RESULTS = Path(__file__).parent / "results"
STUDY = RESULTS / "study.jsonl"
KEY = ("task", "loss", "seed", "steps")  # what tells runs apart
DEAD = 5  # a class whose IoU is below this, in percent, counts as dead

Task = Literal["water", "brain", "land-cover"]

# What each RMI loss passes to `rmi_jax.rmi_loss`.
SIGMOID = {"activation": "sigmoid", "anchor": 0.0}
SOFTMAX = {"activation": "softmax", "anchor": 0.0}
RMI = {
    "rmi-4": {"factor": 4, **SIGMOID},  # the paper's setting
    "rmi-2": {"factor": 2, **SIGMOID},
    "rmi-1": {"factor": 1, **SIGMOID},
    "softmax-rmi-1": {"factor": 1, **SOFTMAX},
    "softmax-rmi-cascade": {"factor": (1, 2, 4), **SOFTMAX},
    "softmax-rmi-2": {"factor": 2, **SOFTMAX},
    "softmax-rmi-4": {"factor": 4, **SOFTMAX},
    "rmi-2-late": {"factor": 2, **SIGMOID},
    "softmax-rmi-1-late": {"factor": 1, **SOFTMAX},
}
LATE = ("rmi-2-late", "softmax-rmi-1-late")  # cross entropy alone for 60 % of the steps, not 30 %
OTHERS = {
    "softmax": baselines.cross_entropy,
    "sigmoid": baselines.binary_cross_entropy,
    "dice": baselines.cross_entropy_and_dice,
}
LossName = Literal[
    "softmax", "sigmoid", "dice", "rmi-4", "rmi-2", "rmi-1",
    "softmax-rmi-1", "softmax-rmi-cascade", "softmax-rmi-2", "softmax-rmi-4",
    "rmi-2-late", "softmax-rmi-1-late",
]  # fmt: skip


def warmup(steps: int, tenths: int = 3):
    """Weight of the cross entropy: 1 for so many tenths of the steps, 0.5 a tenth later."""
    return rmi_jax.warmup_schedule(max(tenths * steps // 10, 1), max(steps // 10, 1))


def objective(name: LossName, steps: int) -> Objective:
    if name in OTHERS:
        return lambda logits, labels, step: OTHERS[name](logits, labels)
    schedule = warmup(steps, 6 if name in LATE else 3)
    return lambda logits, labels, step: rmi_jax.rmi_loss(
        logits, labels, bce_weight=schedule(step), **RMI[name]
    )


def load(task: Task) -> satellite.Data:
    return brain_slices() if task == "brain" else satellite.load(task)


def brain_slices() -> satellite.Data:
    """Noisy slices from ear to ear, cut to 196 x 188 (a U-Net halves them twice)."""
    from segmentation import mni152  # here: the other tasks do not need the `brain` extra

    image, labels = (np.moveaxis(maps, 1, 0)[:, :196, :188] for maps in mni152.volume())
    train, test = mni152.slabs(np.moveaxis(labels, 0, 1))
    noise = np.random.default_rng(0).standard_normal(image.shape, np.float32)
    noisy = image + mni152.NOISE * noise
    mean, std = noisy[train].mean(), noisy[train].std()
    images = ((noisy - mean) / std)[..., None].astype(np.float32)
    pictures = noisy[test].clip(0, 255).astype(np.uint8)
    return satellite.Data(
        mni152.CLASSES,
        mni152.COLOURS,
        satellite.Tiles(images[train], labels[train]),
        satellite.Tiles(images[test], labels[test]),
        np.repeat(pictures[..., None], 3, axis=-1),
    )


def run(
    loss_of: Objective, data: satellite.Data, *, steps: int, seed: int, title: str
) -> tuple[UNet, dict[str, Any]]:
    """The trained model and what it scores on the test images."""
    model, seconds = quickstart.train_on(data, loss_of, steps=steps, seed=seed, title=title)
    scores = quickstart.evaluate(model, data, seconds).scores
    iou = {c: scores[f"IoU {c}, %"] for c in data.classes}
    return model, {
        "miou": scores["mIoU, %"],
        "boundary_f1": scores["boundary F1, %"],
        "iou": iou,
        "dead": [c for c, value in iou.items() if not value >= DEAD],
        "seconds_per_step": seconds,
    }


def circumstances(options: Mapping[str, Any]) -> dict[str, Any]:
    """How, where and with what a run was made."""
    settings = {
        "batch": quickstart.BATCH,
        "crop": quickstart.CROP,
        "learning_rate": quickstart.LEARNING_RATE,
        "boundary_tolerance": quickstart.TOLERANCE,
        **options,
    }
    return {"settings": settings, **records.circumstances()}


def fill(
    results: Path,
    tasks: Iterable[Task],
    seeds: Iterable[int],
    objectives: Mapping[str, Objective],
    *,
    steps: int,
) -> None:
    """Adds the runs that the results file lacks; seed by seed, so that all losses have the same."""
    done = [{name: r[name] for name in KEY} for r in records.read_file(results)]
    for task in tasks:
        data = None
        for seed, (loss, loss_of) in itertools.product(seeds, objectives.items()):
            key = dict(zip(KEY, (task, loss, seed, steps), strict=True))
            if key in done:
                continue
            data = data or load(task)
            title = f"{task} {seed} {loss}"
            _, scores = run(loss_of, data, steps=steps, seed=seed, title=title)
            records.append({**key, **scores, **circumstances(RMI.get(loss, {}))}, results)
            jax.clear_caches()  # compiled programs of finished runs would pile up

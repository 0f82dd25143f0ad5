"""How often does real training need a further pass over the maps, and what does it cost?

    python -m benchmarks.passes

Trains the quick start's network with the default loss and with the paper's term in the same mix.
Along the way it counts the (image, class) pairs whose factorization asked for a further pass, and
the visits of slots that this took, one visit being one class of every image of the batch. The cost
is the time of loss and gradient on the batches met, against the same with a single pass.
"""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

import rmi_jax
from rmi_jax import fit, passes
from rmi_jax.activations import log_total
from rmi_jax.gaussian import Prior
from rmi_jax.geometry import Maps, Regions, Scale

sys.path.append(str(Path(__file__).parent.parent / "examples"))
from segmentation import satellite
from segmentation.models.unet import UNet

RESULTS = Path(__file__).parent / "results" / "passes.json"
ANCHORS = {"default, anchor 0.01": 0.01, "no anchor": 0.0}
SCALE = Scale("softmax", (1, 1), "avg", "exclude", Regions((3, 3), (1, 1), (1, 1)))


@jax.jit
def count(logits, labels, anchor):
    """Pairs, pairs that asked for a further pass, slots visited, and slots visited again."""
    valid = ((labels >= 0) & (labels < logits.shape[-1])).astype(jnp.float32)
    maps = Maps(logits, labels, valid, None, jnp.asarray(True))
    prior = Prior(jnp.float32(5e-4), anchor)
    total = log_total(logits)
    _, (slots, found) = fit.fit(SCALE, maps, total, prior, report=False, keep=False)
    asked = jnp.any(found.mean_residual != 0, axis=2)  # zeros after a first pass
    return slots.varies.sum(), asked.sum(), slots.visits, asked.any(axis=1).sum()


def main(steps: int = 600, every: int = 10, seed: int = 0, results: Path = RESULTS) -> None:
    data = satellite.load("water")
    records = {}
    for name, anchor in ANCHORS.items():
        model = UNet(data.train.images.shape[-1], len(data.classes), rngs=nnx.Rngs(seed))
        rate = optax.warmup_cosine_decay_schedule(0, 3e-3, steps // 20, steps)
        optimizer = nnx.Optimizer(model, optax.adamw(rate), wrt=nnx.Param)

        @nnx.jit
        def update(model, optimizer, images, labels, anchor=anchor):
            def loss_fn(model):
                logits = model(images)
                return rmi_jax.rmi_loss(logits, labels, anchor=anchor), logits

            (_, logits), gradient = nnx.value_and_grad(loss_fn, has_aux=True)(model)
            optimizer.update(model, gradient)
            return logits

        counts, met = [], []
        batches = satellite.crops(data.train, seed=seed, batch=8, size=64)
        for step, (images, labels) in zip(range(steps), batches, strict=False):
            logits = update(model, optimizer, images, labels)
            if step % every == 0:
                counts.append([int(n) for n in count(logits, labels, jnp.float32(anchor))])
                met.append((np.asarray(logits), np.asarray(labels)))
        counts = np.array(counts)
        parts = {"first tenth": slice(0, len(met) // 10), "all": slice(None)}
        records[name] = {
            part: {
                "pairs that asked for a further pass, %": 100 * c[:, 1].sum() / c[:, 0].sum(),
                "slots visited again, %": 100 * c[:, 3].sum() / c[:, 2].sum(),
            }
            for part, c in ((part, counts[where]) for part, where in parts.items())
        }
        records[name]["time against a single pass"] = cost(met, anchor)
        print(name, json.dumps(records[name], indent=2), flush=True)
    results.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


def cost(met, anchor: float, rounds: int = 5) -> float:
    """Time of loss and gradient over that with a single pass, both in turns, median ratio."""
    runs = []
    for threshold in (passes._INFLATION, 1e30):
        before, passes._INFLATION = passes._INFLATION, threshold
        run = jax.jit(jax.value_and_grad(lambda x, y: rmi_jax.rmi_loss(x, y, anchor=anchor)))
        jax.block_until_ready(run(*met[0]))  # traced while the threshold holds
        passes._INFLATION = before
        runs.append(run)
    ratios = []
    for _ in range(rounds):
        seconds = []
        for run in runs:
            start = time.process_time()
            for batch in met:
                jax.block_until_ready(run(*batch))
            seconds.append(time.process_time() - start)
        ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios))


if __name__ == "__main__":
    tyro.cli(main)

"""What do boundaries do in RMI? `python -m studies.earlier.boundary`, from the folder `examples`.

At boundaries the pixels of a region belong to different objects. The study gives two answers.
First, for one trained model on the test tiles: how much of the region positions, of the scatter, of
the loss and of its gradient lies at boundaries, with RMI and with cross entropy. Second: what comes
of training with boundaries weighted up, weighted down, or left out.
"""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import tyro
from flax import nnx
from quickstart import Objective

import rmi_jax
from segmentation import baselines, figures, satellite
from studies.earlier import report, runs

SIZE = 3  # regions of 3 x 3 pixels at full resolution
JITTER = 5e-4
OPTIONS = {"activation": "softmax", "factor": 1, "anchor": 0.0, "jitter": JITTER}


def mixed(labels: jax.Array, size: int) -> jax.Array:
    """Where the size x size window around a pixel holds more than one class."""

    def extreme(of, start: int) -> jax.Array:
        first = jnp.asarray(start, labels.dtype)
        return jax.lax.reduce_window(labels, first, of, (1, size, size), (1, 1, 1), "SAME")

    return extreme(jax.lax.max, -1) != extreme(jax.lax.min, satellite.IGNORED)


class Influence(NamedTuple):
    """Per region position, summed over the classes, ``[B, H - 2, W - 2]``."""

    label_scatter: np.ndarray  # its part of trace Y Y'
    residual_scatter: np.ndarray  # its part of trace R R', what M is made of
    loss: np.ndarray  # what the loss would change by, per relative change of the position's weight


def rmi_influence(probs: np.ndarray, targets: np.ndarray) -> Influence:
    """Splits RMI of maps ``[B, H, W, C]`` by region position.

    A log determinant is no sum over positions, but its derivative with respect to their weights is
    known: as W minimizes it, weighting position x by 1 + e adds e r' (M + jitter I)^-1 r / (2 d) to
    the loss, where r = Y - W P at x.
    """
    regions = [
        np.asarray(rmi_jax.extract_regions(jnp.asarray(maps), SIZE), np.float64)
        for maps in (targets, probs)
    ]
    batch, height, width, d, classes = regions[0].shape
    parts = np.zeros((3, batch, height * width))
    for image, index in np.ndindex(batch, classes):
        y, p = (maps[image, ..., index].reshape(-1, d).T for maps in regions)
        if (y == y[0, 0]).all():
            continue  # a class that does not vary has no influence
        y, p = (part - part.mean(axis=1, keepdims=True) for part in (y, p))
        w = np.linalg.solve(p @ p.T + JITTER * np.eye(d), p @ y.T).T
        r = y - w @ p
        m = r @ r.T + JITTER * (w @ w.T + np.eye(d))
        parts[0, image] += (y**2).sum(axis=0)
        parts[1, image] += (r**2).sum(axis=0)
        parts[2, image] += (r * np.linalg.solve(m, r)).sum(axis=0) / (2 * d)
    return Influence(*parts.reshape(3, batch, height, width))


def maps_of(logits: jax.Array, labels: jax.Array | np.ndarray) -> dict[str, np.ndarray]:
    """By name, what lies where: ``[B, H - 2, W - 2]`` each, the middles of the regions."""

    def rmi(logits, labels):
        return rmi_jax.rmi_loss(logits, labels, bce_weight=0.0, **OPTIONS)

    labels = jnp.asarray(labels)
    inner = np.s_[:, SIZE // 2 : -(SIZE // 2), SIZE // 2 : -(SIZE // 2)]
    probs = np.asarray(jax.nn.softmax(logits))
    influence = rmi_influence(probs, np.asarray(jax.nn.one_hot(labels, logits.shape[-1])))
    gradients = {
        "RMI": jax.jit(jax.grad(rmi))(logits, labels),
        "cross entropy": jax.jit(jax.grad(baselines.cross_entropy))(logits, labels),
    }
    return {
        "positions": np.ones(influence.loss.shape),
        "RMI: scatter of the labels": influence.label_scatter,
        "RMI: scatter of the residuals": influence.residual_scatter,
        "RMI: loss": influence.loss,
        "cross entropy: loss": -np.log(
            np.take_along_axis(probs, np.asarray(labels)[..., None], axis=-1)[..., 0].clip(1e-30)
        )[inner],
        **{
            f"{name}: gradient ({norm})": np.asarray((jnp.abs(g) ** power).sum(axis=-1))[inner]
            for name, g in gradients.items()
            for norm, power in (("absolute", 1), ("squared", 2))
        },
    }


def objectives(steps: int) -> dict[str, Objective]:
    """The study's softmax RMI, with the pixels at boundaries weighted otherwise."""
    schedule = runs.warmup(steps)

    def loss_of(weight: float, size: int) -> Objective:
        # A region weighs the least of its pixels, so for a boundary's regions to weigh more, all
        # the pixels they touch must (size 5); for them to weigh less, those next to it (size 3).
        def loss(logits, labels, step):
            where = jnp.where(mixed(labels, size), weight, 1.0)
            bce_weight = schedule(step)  # the cross entropy is not weighted by pixel
            return bce_weight * baselines.cross_entropy(logits, labels) + rmi_jax.rmi_loss(
                logits, labels, bce_weight=0.0, rmi_weight=1 - bce_weight, where=where, **OPTIONS
            )

        return loss

    return {
        "boundaries x 3": loss_of(3.0, 5),
        "boundaries x 1/3": loss_of(1 / 3, 3),
        "boundaries left out": loss_of(0.0, 3),
    }


def share_table(maps: dict[str, np.ndarray], boundary: np.ndarray) -> dict[str, float]:
    return {
        name: round(100 * float(values[boundary].sum() / values.sum()), 1)
        for name, values in maps.items()
    }


def draw(
    maps: dict[str, np.ndarray],
    shares: dict[str, float],
    data: satellite.Data,
    tile: int,
    picture: Path,
) -> None:
    """One test tile, and the shares as bars."""
    panels = {
        "truth": data.colours[data.test.labels[tile]][1:-1, 1:-1],
        "cross entropy: loss": maps["cross entropy: loss"][tile],
        "RMI: loss": maps["RMI: loss"][tile],
        "cross entropy: gradient": maps["cross entropy: gradient (absolute)"][tile],
        "RMI: gradient": maps["RMI: gradient (absolute)"][tile],
    }
    figure = plt.figure(figsize=(9.2, 5.6))
    grid = figure.add_gridspec(2, len(panels), height_ratios=(1, 1.35))
    for column, (title, values) in enumerate(panels.items()):
        axis = figure.add_subplot(grid[0, column])
        if values.ndim == 3:
            axis.imshow(values, interpolation="nearest")
        else:
            axis.imshow(values, vmax=np.quantile(values, 0.995), cmap="magma", vmin=0)
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    axis = figure.add_subplot(grid[1, :])
    names = list(shares)
    colours = [
        "tab:blue" if name.startswith("RMI") else "tab:orange" if "cross" in name else "0.5"
        for name in names
    ]
    bars = axis.barh(names, list(shares.values()), color=colours)
    axis.bar_label(bars, fmt="%.0f %%", fontsize=8, padding=2)
    axis.set_xlim(0, 112)
    axis.invert_yaxis()
    axis.tick_params(labelsize=8)
    axis.set_xlabel(
        "share at boundaries, where a 3 x 3 region holds several classes, %", fontsize=8
    )
    figure.tight_layout(pad=0.5)
    figures.save(figure, picture)


def main(
    steps: int = 600,
    seeds: tuple[int, ...] = (0, 1, 2),
    losses: tuple[str, ...] = ("boundaries x 3", "boundaries x 1/3", "boundaries left out"),
    share_steps: int = 300,
    results: Path = runs.RESULTS / "boundary.jsonl",
    shares: Path = runs.RESULTS / "boundary_shares.json",
    picture: Path = Path("outputs/boundary.png"),
    table: bool = False,
) -> None:
    """Measures what boundaries contribute to RMI and to cross entropy, and trains without them.

    Args:
        steps: training steps of each run.
        seeds: of the runs with boundaries weighted; the shares are of a model with the first one.
        losses: which weights to train with.
        share_steps: training steps of the models whose shares are measured.
        results: the file to which each run adds a line; runs that it holds are not repeated.
        shares: the file to write the shares to.
        picture: where to draw them.
        table: train nothing, only print the table of the runs that the files hold.
    """
    if table:
        report.print_beside_the_study(results, steps)
        return
    if min(steps, share_steps) < 1 or not seeds:
        raise SystemExit("the steps must be at least 1, and --seeds needs a number")
    data = satellite.load("water")
    labels = data.test.labels
    predict = nnx.jit(lambda model, images: model(images))
    boundary = np.asarray(mixed(jnp.asarray(labels), SIZE))[:, 1:-1, 1:-1]
    record = {}
    for loss in ("softmax", "softmax-rmi-1"):
        loss_of = runs.objective(loss, share_steps)
        model, scores = runs.run(loss_of, data, steps=share_steps, seed=seeds[0], title=loss)
        maps = maps_of(predict(model, data.test.images), labels)
        record[loss] = {"miou": scores["miou"], "shares": share_table(maps, boundary)}
        print(f"\n{report.TITLES[loss]}: share at boundaries, %")
        print("\n".join(f"| {name} | {share} |" for name, share in record[loss]["shares"].items()))
    tile = int(boundary.mean(axis=(1, 2)).argmax())
    draw(maps, record["softmax-rmi-1"]["shares"], data, tile, picture)
    shares.parent.mkdir(parents=True, exist_ok=True)
    record.update(runs.circumstances({"steps": share_steps, "seed": seeds[0]}))
    shares.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    chosen = {name: objectives(steps)[name] for name in losses}
    runs.fill(results, ["water"], seeds, chosen, steps=steps)
    report.print_beside_the_study(results, steps)


if __name__ == "__main__":
    report.headless()
    tyro.cli(main)

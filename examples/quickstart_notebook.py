# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: -all
#     formats: ipynb,_notebook.py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
# ---

# %% [markdown]
# # Region Mutual Information in a few minutes
#
# Trains one small network twice on satellite imagery (sea, land, lakes), with cross entropy and
# with RMI, and compares them. Runs as it is on a CPU, a GPU or a TPU, here or on Colab.
#
# The next cell installs the library: from the checkout that this notebook lies in, or else from
# `GIT_URL`. **The address is a placeholder: put that of your copy there.** JAX is never replaced by
# another version, since on a TPU it must match the runtime.

# %%
import importlib.util
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

GIT_URL = "https://github.com/OWNER/rmi_jax.git"

folders = [Path.cwd(), *Path.cwd().parents]
checkout = next(
    (f for f in folders if (f / "rmi_jax/__init__.py").exists()), Path("rmi_jax").resolve()
)
if not (checkout / "pyproject.toml").exists():
    subprocess.run(["git", "clone", "--depth", "1", GIT_URL, str(checkout)], check=True)

if os.environ.get("RMI_JAX_NOTEBOOK_INSTALL", "yes") == "yes":
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", str(checkout)], check=True)
    needed = ("jax", "flax", "optax", "chex", "matplotlib", "pillow", "tqdm")
    modules = {"pillow": "PIL"}
    there = {n: importlib.util.find_spec(modules.get(n, n)) is not None for n in needed}
    if not all(there.values()):
        kept = "".join(f"{n}=={version(n)}\n" for n in needed if there[n])
        missing = [n for n in needed if not there[n]]
        with tempfile.TemporaryDirectory() as folder:
            constraint = Path(folder, "kept_versions.txt")
            constraint.write_text(kept, encoding="utf-8")
            subprocess.run([*pip, "--constraint", str(constraint), *missing], check=True)
    importlib.invalidate_caches()  # what was looked for before it was there

sys.path.insert(0, str(checkout / "examples"))  # for the data and the network

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from tqdm.auto import tqdm

import rmi_jax
from rmi_jax import metrics
from segmentation import satellite
from segmentation.models.unet import UNet

STEPS = int(os.environ.get("RMI_JAX_NOTEBOOK_STEPS", "600"))
SEED = 0
print("JAX", jax.__version__, "on", jax.devices()[0].device_kind)

# %% [markdown]
# ## The data
#
# Tiles of 128 x 128 pixels, every fourth one for testing. Lakes are small, thin and rare.

# %%
data = satellite.load("water")
print(len(data.train.labels), "tiles to train on,", len(data.test.labels), "to test on")

figure, axes = plt.subplots(2, 6, figsize=(12, 4))
for column, tile in zip(axes.T, range(0, 30, 5), strict=True):
    column[0].imshow((255 * (data.test_pictures[tile] / 255) ** 0.6).astype(np.uint8))
    column[1].imshow(data.colours[data.test.labels[tile]])
    for axis in column:
        axis.set_axis_off()
plt.show()

# %% [markdown]
# ## The loss
#
# The whole change: `rmi_loss` in place of cross entropy. Its defaults are an even mix of cross
# entropy and RMI from the first step, on softmax probabilities at full resolution.


# %%
def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def rmi(logits, labels):
    return rmi_jax.rmi_loss(logits, labels)


# %% [markdown]
# ## Training
#
# The same weights to start from and the same batches for both.


# %%
def train(loss_of, title):
    model = UNet(3, len(data.classes), rngs=nnx.Rngs(SEED))
    learning_rate = optax.warmup_cosine_decay_schedule(0, 3e-3, STEPS // 20, STEPS)
    optimizer = nnx.Optimizer(model, optax.adamw(learning_rate), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, images, labels):
        loss, gradient = nnx.value_and_grad(lambda m: loss_of(m(images), labels))(model)
        optimizer.update(model, gradient)
        return loss

    losses = []
    batches = satellite.crops(data.train, seed=SEED, batch=8, size=64)
    for _, (images, labels) in zip(tqdm(range(STEPS), title), batches, strict=False):
        losses.append(update(model, optimizer, images, labels))
    return model, np.array(losses)


runs = {"cross entropy": train(cross_entropy, "cross entropy"), "RMI": train(rmi, "RMI")}

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 2.5))
for axis, (name, (_, losses)) in zip(axes, runs.items(), strict=True):
    axis.plot(losses, linewidth=0.8)
    axis.set(title=name, xlabel="step", ylabel="loss")
plt.show()

# %% [markdown]
# The two curves show different quantities, so they are not to be compared. What counts is how well
# the networks do on tiles they have never seen.

# %% [markdown]
# ## Results
#
# Boundary F1 asks whether predicted outlines lie within 2 pixels of the true ones. The normalized
# mutual information is what RMI maximizes, in [0, 1): how much of the shape around each pixel the
# prediction tells, here over the tiles that hold the class. One seed says little: the page
# "Choosing settings" has comparisons over several.

# %%
predict = nnx.jit(lambda model, images: nnx.softmax(model(images)))
targets = jax.nn.one_hot(data.test.labels, len(data.classes))
predictions = {}
for name, (model, _) in runs.items():
    probs = predict(model, data.test.images)
    predictions[name] = np.asarray(jnp.argmax(probs, axis=-1))
    matrix = metrics.confusion_matrix(predictions[name], data.test.labels, len(data.classes))
    contours = metrics.boundary_counts(
        predictions[name], data.test.labels, len(data.classes), tolerance=2
    )
    information = rmi_jax.region_mutual_information(probs, targets, factor=1, normalize=True)
    print(f"{name}:")
    print(f"  mIoU {100 * metrics.mean_iou(matrix):.1f} %", end=", ")
    print(f"boundary F1 {100 * jnp.nanmean(metrics.boundary_f1(contours)):.1f} %")
    for c, title in enumerate(data.classes):
        told = information[:, c].mean(where=information[:, c] > 0)
        print(f"  {title}: IoU {100 * metrics.iou(matrix)[c]:.1f} %, mutual information {told:.3f}")

# %%
titles = ["image", "truth", *predictions]
tiles = np.argsort(-(data.test.labels == 2).mean(axis=(1, 2)))[:3]  # those with the most lake
figure, axes = plt.subplots(len(tiles), len(titles), figsize=(10, 7.5))
for row, tile in zip(axes, tiles, strict=True):
    panels = [(255 * (data.test_pictures[tile] / 255) ** 0.6).astype(np.uint8)]
    maps = [data.test.labels, *predictions.values()]
    panels += [data.colours[labels[tile]] for labels in maps]
    for axis, panel, title in zip(row, panels, titles, strict=True):
        axis.imshow(panel, interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
figure.tight_layout()
plt.show()

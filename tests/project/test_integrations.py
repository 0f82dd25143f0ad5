"""The recipes of docs/integrations.md, read from the page and run (`pytest -m integrations`)."""

# The extra `integrations` need not be where types are checked.
# pyright: reportMissingImports=false

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from processes import run_in_process

import rmi_jax

ROOT = Path(__file__).parents[2]
LONGEST = 15  # lines
CLASSES = 3
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 32, 32, 3)).astype(np.float32)
LABELS = (IMAGES[..., 0] > 0).astype(np.int32) + (IMAGES[..., 1] > 1)
SOFTMAX = {"activation": "softmax", "anchor": 0.01}  # what rmi_loss has by default
LOGITS = RNG.normal(size=(4, 32, 32, CLASSES)).astype(np.float32)

pytestmark = pytest.mark.integrations


def recipes():
    """The Python blocks of the page under each heading."""
    page = (ROOT / "docs" / "integrations.md").read_text()
    sections = re.split(r"^## (.+)$", page, flags=re.MULTILINE)[1:]
    found = {}
    for title, text in zip(sections[::2], sections[1::2], strict=True):
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if blocks:
            found[title] = blocks
    return found


def run(title, **names):
    """The names that a recipe leaves behind."""
    names = {"jax": jax, "jnp": jnp, "optax": optax, "rmi_jax": rmi_jax, **names}
    for number, block in enumerate(recipes()[title]):
        exec(compile(block, f"docs/integrations.md, {title}, block {number}", "exec"), names)
    return SimpleNamespace(**names)


def falls(losses):
    assert np.all(np.isfinite(losses))
    assert losses[-1] < losses[0]


def test_every_recipe_is_short_and_tested():
    tested = {name for name in globals() if name.startswith("test_")}
    for title, blocks in recipes().items():
        assert f"test_{re.sub('[^a-z0-9]+', '_', title.lower())}" in tested
        for block in blocks:
            assert len([line for line in block.splitlines() if line]) <= LONGEST, title


def test_optax():
    def apply(params, images):
        return images @ params

    loss_fn = run("Optax", apply=apply).loss_fn
    where = np.random.default_rng(1).random(LABELS.shape) < 0.9
    ignored = np.where(np.indices(LABELS.shape).sum(axis=0) % 2, 255, -1)
    logits = IMAGES @ jnp.eye(3)
    log_probs = jax.nn.log_softmax(logits)
    targets = jax.nn.one_hot(LABELS, CLASSES)
    entropy = -(targets * log_probs).sum(-1)[where].mean()
    weights = {"bce_weight": 0.0, "rmi_weight": 0.5}
    term = rmi_jax.soft_rmi_loss(logits, targets, where=where, **weights, **SOFTMAX)
    labels = np.where(where, LABELS, ignored)
    np.testing.assert_allclose(loss_fn(jnp.eye(3), IMAGES, labels), entropy + term, rtol=1e-5)


def test_flax_nnx():
    """In a process with four devices, as the guide is: explicit axes, parameters sharded."""
    done = run_in_process(__file__, 4)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def train_as_in_the_guide():
    from flax import nnx

    compute_losses_and_logits = run("Flax NNX").compute_losses_and_logits

    class Model(nnx.Module):
        def __init__(self, rngs):
            sharded = {"out_sharding": jax.P(None, None, None, "fsdp")}
            self.hidden = nnx.Conv(3, 8, (3, 3), rngs=rngs, kernel_metadata=sharded)
            self.out = nnx.Conv(8, CLASSES, (1, 1), rngs=rngs)

        def __call__(self, images, rngs=None):
            hidden = nnx.relu(self.hidden(images, out_sharding=jax.P("fsdp")))
            return self.out(hidden, out_sharding=jax.P("fsdp"))

    @nnx.jit(donate_argnames=("model", "optimizer"))
    def train_step(model, optimizer, rngs, batch):  # the guide's
        images, masks = batch
        grad_fn = nnx.value_and_grad(compute_losses_and_logits, has_aux=True)
        (loss, (entropy, rmi, logits)), grads = grad_fn(model, images, masks, rngs.fork())
        optimizer.update(model, grads)
        return loss, entropy, rmi

    mesh = jax.make_mesh((jax.device_count(),), ("fsdp",))
    assert jax.device_count() == 4
    with jax.set_mesh(mesh):
        model = Model(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        images, masks = (jax.device_put(a, device=jax.P("fsdp")) for a in (IMAGES, LABELS))
        alone = rmi_jax.rmi_loss(np.asarray(model(images)), LABELS)
        steps = [train_step(model, optimizer, nnx.Rngs(1), (images, masks)) for _ in range(4)]
    np.testing.assert_allclose(steps[0][0], alone, rtol=1e-4)
    falls([loss for loss, _, _ in steps])


def test_flax_linen():
    from flax import linen as nn
    from flax.training.train_state import TrainState

    recipe = run("Flax Linen")
    model = nn.Conv(CLASSES, (3, 3))
    params = model.init(jax.random.key(0), IMAGES)["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-2))
    steps = []
    for _ in range(4):
        state, *step = recipe.train_step(state, IMAGES, LABELS)
        steps.append(step)
    falls([loss for loss, _ in steps])
    parts = steps[-1][1]
    logged = recipe.scalars(parts, ["sea", "land", "lake"])
    assert len(logged) == len(parts) * CLASSES
    assert logged["rmi/lake"] == float(parts.rmi[2])
    assert logged["images/sea"] == 4


def test_equinox():
    import equinox as eqx

    optimizer = optax.adam(1e-2)
    train_step = run("Equinox", eqx=eqx, optimizer=optimizer).train_step
    model = eqx.nn.Conv2d(3, CLASSES, 3, padding=1, key=jax.random.key(0))
    state = optimizer.init(eqx.filter(model, eqx.is_array))
    images = np.moveaxis(IMAGES, -1, 1)
    first = rmi_jax.rmi_loss(np.moveaxis(jax.vmap(model)(images), 1, -1), LABELS)
    losses = []
    for _ in range(4):
        model, state, loss = train_step(model, state, images, LABELS)
        losses.append(loss)
    np.testing.assert_allclose(losses[0], first, rtol=1e-4)
    falls(losses)


@pytest.fixture
def segmenter(monkeypatch):
    """KerasHub's DeepLabV3+ with random weights, as small as it goes; returns logits."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    import keras
    import keras_hub

    assert keras.backend.backend() == "jax"
    keras.utils.set_random_seed(0)
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    backbone = keras_hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P3",
        projection_filters=4,
        upsampling_size=2,
        dilation_rates=[1, 2, 3],
        image_shape=(32, 32, 3),
    )
    return keras_hub.models.DeepLabV3ImageSegmenter(backbone, num_classes=CLASSES)


# KerasHub makes a data set of the arrays, about which Keras then warns.
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed:UserWarning")
def test_keras_3_on_jax(segmenter):
    ignored = LABELS.copy()
    ignored[:, :3] = 255
    recipe = run("Keras 3 on JAX", model=segmenter, images=IMAGES, labels=ignored)
    falls(recipe.history.history["loss"])
    logits = segmenter.predict(IMAGES, verbose=0)
    assert logits.shape == (*LABELS.shape, CLASSES)
    expected = rmi_jax.rmi_loss(logits, ignored)
    soft = rmi_jax.rmi_loss(logits, LABELS)
    one_hot = np.eye(CLASSES, dtype=np.float32)[LABELS]
    for loss, labels, value in (
        (recipe.rmi, ignored, expected),
        (recipe.rmi, ignored[..., None].astype(np.uint8), expected),
        (recipe.one_hot_rmi, one_hot, soft),
        (recipe.one_hot_rmi, one_hot.astype(np.int32), soft),
    ):
        segmenter.compile(optimizer="sgd", loss=loss, metrics=[])
        evaluated = segmenter.evaluate(IMAGES, labels, batch_size=2, verbose=0)
        np.testing.assert_allclose(evaluated, value, rtol=1e-4)


def test_kauldron():
    from kauldron import kontext, losses

    rmi = run("Kauldron", dataclasses=dataclasses, kontext=kontext, losses=losses).RMI
    where = np.random.default_rng(1).random((*LABELS.shape, 1)) < 0.9
    labels = LABELS[..., None]
    per_image = rmi_jax.rmi_loss(LOGITS, LABELS, where=where[..., 0], reduction="none")
    kept = np.array([1.0, 0, 1, 1], np.float32)
    context = {
        "preds": {"logits": LOGITS},
        "batch": {"label": labels, "mask": where, "keep": kept},
        "step": 7,
    }
    keys = {"logits": "preds.logits", "labels": "batch.label", "where": "batch.mask"}
    loss = rmi(**keys)
    np.testing.assert_allclose(loss(context=context), per_image.mean(), rtol=1e-5)
    masked = rmi(**keys, mask="batch.keep", weight=2.0)
    expected = 2 * (per_image * kept).sum() / 3
    np.testing.assert_allclose(masked(context=context), expected, rtol=1e-5)


class Config(dict):
    """What Scenic uses of ml_collections.ConfigDict."""

    __getattr__ = dict.__getitem__


def test_scenic():
    """Stubs of scenic.model_lib.base_models: segmentation_model and model_utils."""

    class SegmentationModel:
        def __init__(self, config, dataset_meta_data):
            self.config, self.dataset_meta_data = config, dataset_meta_data

        def loss_function(self, logits, batch, model_params=None):
            raise AssertionError("the recipe overrides it")

    def l2_regularization(params):
        return sum(jnp.sum(p**2) for p in jax.tree.leaves(params) if p.ndim > 1)

    recipe = run(
        "Scenic",
        SegmentationModel=SegmentationModel,
        model_utils=SimpleNamespace(l2_regularization=l2_regularization),
    )
    mask = np.ones(LABELS.shape, np.float32)
    mask[3] = 0  # an image of padding
    params = {"kernel": jnp.full((2, 2), 3.0)}
    expected = rmi_jax.rmi_loss(LOGITS, LABELS, where=mask)
    model = recipe.RMISegmentationModel(Config(l2_decay_factor=0.1), {})
    loss = jax.jit(model.loss_function)(LOGITS, {"label": LABELS, "batch_mask": mask}, params)
    np.testing.assert_allclose(loss, expected + 0.5 * 0.1 * 36, rtol=1e-5)
    model = recipe.RMISegmentationModel(Config(), {"target_is_onehot": True})
    one_hot = np.eye(CLASSES, dtype=np.float32)[LABELS]
    loss = model.loss_function(LOGITS, {"label": one_hot}, params)
    np.testing.assert_allclose(loss, rmi_jax.rmi_loss(LOGITS, LABELS), rtol=1e-5)


def test_big_vision_and_jeo():
    """Called as big_vision's trainers and jeo's SegmentationTask do."""
    rmi = run("big_vision and jeo").rmi
    weights = jnp.ones(LABELS.shape).at[:, :5].set(0)
    per_image = rmi_jax.rmi_loss(LOGITS, LABELS, where=weights, reduction="none")
    for reduction, expected in ((True, per_image.mean()), (False, per_image)):
        value = rmi(logits=LOGITS, labels=LABELS, reduction=reduction, weights=weights)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    one_hot = np.eye(CLASSES, dtype=np.int32)[LABELS]
    expected = rmi_jax.rmi_loss(LOGITS, LABELS, factor=2)
    np.testing.assert_allclose(rmi(logits=LOGITS, labels=one_hot, factor=2), expected, rtol=1e-5)


if __name__ == "__main__":
    train_as_in_the_guide()

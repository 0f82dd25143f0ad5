"""Is a batch in parts trained on as a whole? For a process with 4 devices and 64-bit types."""

import jax
import jax.numpy as jnp
import miniature
import numpy as np

with miniature.importing_examples():
    from segmentation import config, hosts, step
    from segmentation.models import Network, Weights

CLASSES, BATCH, SIDE = 3, 16, 12
# Numbers of parts, by loss.
CUTS: tuple[tuple[config.LossName, tuple[int, ...]], ...] = (
    ("rmi", (4, 2)),
    ("softmax", (2,)),
    ("sigmoid", (2,)),
)


def network(random):
    """A linear one in float64: what a part gives depends on its own pictures alone."""

    def predict(weights, images):
        return images @ weights.params["kernel"] + weights.params["bias"]

    params = {"kernel": random.normal(size=(3, CLASSES)), "bias": random.normal(size=CLASSES)}
    return Network(Weights(params, {}), predict, lambda w, x, key: (predict(w, x), {}))


def batch(random):
    """Crops with more and more padding, as random scales make them; the last is nothing else."""
    images = random.normal(size=(BATCH, SIDE, SIDE, 3))
    labels = random.integers(0, CLASSES, (BATCH, SIDE, SIDE))
    for number, crop in enumerate(labels):
        crop[:, SIDE - number * SIDE // (BATCH - 1) :] = 255
    return images, labels


def check():
    """Prints nothing if all is well."""
    random = np.random.default_rng(0)
    net, (images, labels) = network(random), batch(random)
    for loss, cuts in CUTS:
        results = []
        for parts, devices in ((1, 1), *((cut, 8 // cut) for cut in cuts)):
            options = config.Config(
                loss=loss, rmi=config.Rmi(bce_weight=0.3, warmup=0, factor=(2,)), accumulate=parts,
                batch=BATCH, steps=10, learning_rate=1.0, weight_decay=0,
            )  # fmt: skip
            spread = placement(devices)
            state = jax.device_put(step.start(options, net), spread.everywhere)
            arrays = (jax.device_put(jnp.asarray(a), spread.spread) for a in (images, labels))
            state, metrics = step.make(options, net)(state, *arrays)
            results.append((metrics, state.weights.params))  # after a step of the gradient's size
        whole, *cut = jax.device_get(results)
        assert whole[0].loss.dtype == np.float64
        assert whole[0].finite
        assert 0 < whole[0].parts.images.min() < BATCH
        for result in cut:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), result, whole)
        by_hand(whole[0].parts.cross_entropy.sum(), images, labels, net, loss)


def placement(devices):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("data",))
    spec = jax.sharding.PartitionSpec
    return hosts.Placement(
        jax.sharding.NamedSharding(mesh, spec()), jax.sharding.NamedSharding(mesh, spec("data"))
    )


def by_hand(found, images, labels, net, loss):
    logits = images @ net.weights.params["kernel"] + net.weights.params["bias"]
    truth = labels[..., None] == np.arange(CLASSES)
    if loss == "sigmoid":
        entropy = (np.logaddexp(0, logits) - truth * logits).sum(-1)
    else:
        entropy = np.log(np.exp(logits).sum(-1)) - (truth * logits).sum(-1)
    valid = labels != 255
    np.testing.assert_allclose(found, entropy[valid].sum() / (valid.sum() + 1), rtol=1e-9)

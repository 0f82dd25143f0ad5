"""Error of float32 for predictions of every kind: ``python -m benchmarks.numerics [SIDE]``.

Prints Markdown. Value: largest absolute error of a class, summed over 2 images, in nats; gradient:
relative to its norm, by the probabilities. The reference is float64 on the same float32
probabilities. The textbook is the paper's formula, Cholesky factorizations included.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

import rmi_jax

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))
import predictions

ALPHA = 5e-4


def textbook(probs, targets):
    """The paper's subtraction, per class and summed over images."""
    y, p = (rmi_jax.extract_regions(m, 3) for m in (targets, probs))
    y, p = (jnp.moveaxis(m.reshape(m.shape[0], -1, *m.shape[-2:]), 1, -1) for m in (y, p))
    y, p = (jnp.moveaxis(m - m.mean(-1, keepdims=True), 2, 1) for m in (y, p))  # [B, C, d, n]
    jitter = ALPHA * jnp.eye(9, dtype=p.dtype)
    yy, yp, pp = (jnp.einsum("bcin,bcjn->bcij", a, b) for a, b in ((y, y), (y, p), (p, p)))
    m = yy - yp @ jnp.linalg.solve(pp + jitter, jnp.swapaxes(yp, -1, -2))
    pivots = jnp.diagonal(jnp.linalg.cholesky(m + jitter), axis1=-2, axis2=-1)
    return jnp.sum(jnp.log(pivots) / 9 - np.log(ALPHA) / 18, axis=(0, 2))


def library(implementation):
    def values(probs, targets):
        options = {"factor": 1, "anchor": 0.0, "implementation": implementation}
        return rmi_jax.region_information_loss(probs, targets, **options).sum(axis=0)

    return values


def graded(values):
    def total(probs, targets):
        per_class = values(probs, targets)
        return per_class.sum(), per_class

    return jax.jit(jax.grad(total, has_aux=True))


def main(side: int) -> None:
    jax.config.update("jax_enable_x64", True)
    forms = {
        "streaming": graded(library("streaming")),
        "patches": graded(library("patches")),
        "textbook": graded(textbook),
    }
    print("| prediction |", " | ".join(forms), "|")
    print("|---" * (len(forms) + 1) + "|")
    for name, (logits, labels) in {**predictions.easy(side), **predictions.hard(side)}.items():
        probs = np.asarray(jax.nn.sigmoid(jnp.asarray(logits, jnp.float32)))
        targets = predictions.one_hot(labels).astype(np.float32)
        grad, value = forms["streaming"](probs.astype(float), targets.astype(float))
        cells = []
        for run in forms.values():
            narrow_grad, narrow = run(probs, targets)
            error = np.abs(narrow - value).max()
            norm = np.linalg.norm(grad)
            relative = np.linalg.norm(narrow_grad - grad) / norm if norm > 0 else np.nan
            cells.append(f"{error:.0e}, {relative:.0e}" if np.isfinite(error) else "NaN")
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 129)

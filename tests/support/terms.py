"""The RMI term alone, compiled, with both of its gradients."""

import jax
import numpy as np
from compiling import quick_jit

import rmi_jax


def term_and_grads(**options):
    """``run(probs, targets, where, jitter, anchor)`` of the term and its gradients, compiled.

    It gives terms ``[B, C]`` and the gradients of their sum by both maps. The last three arguments
    may be left out; all else is an option of `rmi_jax.region_information_loss`.
    """

    def loss_fn(probs, targets, where=None, jitter=None, anchor=None):
        traced = {"jitter": jitter, "anchor": anchor}
        traced = {name: value for name, value in traced.items() if value is not None}
        terms = rmi_jax.region_information_loss(probs, targets, where=where, **options, **traced)
        return terms.sum(), terms

    run = quick_jit(jax.grad(loss_fn, argnums=(0, 1), has_aux=True))

    def terms_and_grads(*arrays):
        grads, terms = run(*arrays)
        return np.asarray(terms), tuple(map(np.asarray, grads))

    return terms_and_grads

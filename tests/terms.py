"""The RMI term alone, compiled, with both of its gradients."""

import jax
import numpy as np
from conftest import quick_jit

import rmi_jax


def region_terms(**options):
    """``run(probs, targets, where, jitter) -> terms [B, C], gradients of their sum by both maps``.

    The last two may be left out; all else is an option of `rmi_jax.region_information_loss`.
    """

    def loss_fn(probs, targets, where=None, jitter=None):
        traced = {} if jitter is None else {"jitter": jitter}
        terms = rmi_jax.region_information_loss(probs, targets, where=where, **options, **traced)
        return terms.sum(), terms

    run = quick_jit(jax.grad(loss_fn, argnums=(0, 1), has_aux=True))

    def terms_and_grads(*arrays):
        grads, terms = run(*arrays)
        return np.asarray(terms), tuple(map(np.asarray, grads))

    return terms_and_grads

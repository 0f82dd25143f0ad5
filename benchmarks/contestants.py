"""Who is measured. Each builds two callables without arguments, `forward` and `gradient`."""

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cases import Case


class Contestant(NamedTuple):
    runs: dict[str, Callable[[], None]]  # each waits until its result is there
    report: dict[str, Any]  # compile seconds, compiler-reported bytes


def _jax(loss_fn, case: Case, logits: np.ndarray, labels: np.ndarray, limit: float) -> Contestant:
    import jax

    args = jax.device_put((logits, labels))  # arguments: as constants XLA would fold them
    runs, report = {}, {}
    for name, function in (("forward", loss_fn), ("gradient", jax.value_and_grad(loss_fn))):
        start = time.perf_counter()
        compiled = jax.jit(function).lower(*args).compile()
        seconds = time.perf_counter() - start
        memory = compiled.memory_analysis()
        report[name] = {
            "compile_s": seconds,
            "temporaries": memory.temp_size_in_bytes,
            "outputs": memory.output_size_in_bytes,
            "arguments": memory.argument_size_in_bytes,
        }
        if memory.temp_size_in_bytes > limit:
            raise MemoryError(f"needs {memory.temp_size_in_bytes / 1e9:.1f} GB")
        runs[name] = lambda compiled=compiled: jax.block_until_ready(compiled(*args))
    return Contestant(runs, report)


# Written out, so that figures stay comparable whatever the library's defaults become.
OPTIONS = {
    "activation": "sigmoid", "anchor": 0.0, "jitter": 5e-4, "region_size": 3, "bce_weight": 0.5,
    "downsampling": "avg", "ignored": "exclude", "zero_floor": True,
}  # fmt: skip


def streaming(case, logits, labels, limit, **options):
    import rmi_jax

    def loss_fn(logits, labels):
        return rmi_jax.rmi_loss(logits, labels, factor=case.factor, **(OPTIONS | options))

    return _jax(loss_fn, case, logits, labels, limit)


def streaming_rmi(*args):
    """The RMI part alone."""
    return streaming(*args, bce_weight=0.0, rmi_weight=1.0)


def patches(*args):
    return streaming(*args, implementation="patches")


def optax_bce(case, logits, labels, limit):
    """Sigmoid cross entropy on a one-hot array, what a user would write without RMI."""
    import jax
    import optax

    def loss_fn(logits, labels):
        one_hot = jax.nn.one_hot(labels, logits.shape[-1])
        losses = optax.losses.sigmoid_binary_cross_entropy(logits, one_hot)
        return losses.sum() / (labels.size + 1)

    return _jax(loss_fn, case, logits, labels, limit)


def copy(case, logits, labels, limit):
    """Reads the logits once; as `gradient`, reads and writes them once: the memory's own limit."""
    import jax

    values = jax.device_put(logits)
    runs = {}
    for name, function in (("forward", lambda x: x.sum()), ("gradient", lambda x: x + 1)):
        compiled = jax.jit(function).lower(values).compile()
        runs[name] = lambda compiled=compiled: jax.block_until_ready(compiled(values))
    return Contestant(runs, {})


def _rmi_pytorch(case, logits, labels, limit, *, double):
    import torch
    from rmi import RMILoss

    warnings.simplefilter("ignore")  # it calls functions that PyTorch deprecates
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        import resource

        # So that it fails by itself where it does not fit, and the system stays up.
        resource.setrlimit(resource.RLIMIT_AS, (int(limit), resource.RLIM_INFINITY))
    classes = case.shape[-1]
    if not double:
        # In float32 it stops with a Cholesky error where objects are large and smooth, as they are
        # in the cases. Its time does not depend on the values: give it noise on noise.
        rng = np.random.default_rng(0)
        logits = rng.standard_normal(case.shape, dtype=np.float32)
        labels = rng.integers(0, case.shape[-1], labels.shape)
    # Its layout and its targets are made outside of what is timed.
    logits = torch.tensor(logits, device=device).movedim(-1, 1).contiguous().requires_grad_()
    labels = torch.tensor(labels, device=device).long()
    targets = torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float().contiguous()
    loss_fn = RMILoss(with_logits=True, stride=case.factor, pool="avg", use_double_precision=double)

    report = {"torch_device": device, "noise": not double}

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def forward():
        with torch.no_grad():
            loss_fn(logits, targets)
        wait()

    def gradient():
        logits.grad = None
        loss_fn(logits, targets).backward()
        wait()

    return Contestant({"forward": forward, "gradient": gradient}, report)


def rmi_pytorch_float64(*args):
    """Its recommended setting."""
    return _rmi_pytorch(*args, double=True)


def rmi_pytorch_float32(*args):
    return _rmi_pytorch(*args, double=False)


OURS = {"streaming": streaming, "streaming_rmi": streaming_rmi, "patches": patches}
YARDSTICKS = {"optax_bce": optax_bce, "copy": copy}
PEERS = {"rmi_pytorch_float64": rmi_pytorch_float64, "rmi_pytorch_float32": rmi_pytorch_float32}
CONTESTANTS = OURS | YARDSTICKS | PEERS

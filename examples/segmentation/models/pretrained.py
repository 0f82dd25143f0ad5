"""torchvision's ResNet weights, from a local safetensors file, into a network's backbone.

A file in PyTorch's own format is converted once, where torchvision is installed:

    from safetensors.torch import save_file
    from torchvision.models import resnet101
    save_file(resnet101(weights="IMAGENET1K_V1").state_dict(), "resnet101.safetensors")
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from segmentation.models import Arrays, Weights

# Ours to torchvision's. A kernel and a norm's scale are both called weight there.
ENDINGS = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def load(weights: Weights, file: Path) -> Weights:
    """The weights with every array of the backbone replaced by the file's.

    Raises:
      SystemExit: if the file cannot be read, lacks an array, or has one of another shape.
    """
    if not any(name.startswith("backbone.") for name in weights.params):
        raise SystemExit("--weights is for a network with a backbone: --model deeplabv3plus")
    try:
        stored = load_file(file)
    except Exception as error:
        raise SystemExit(f"--weights: cannot read {file} as safetensors: {error}") from error
    return Weights(*(filled(arrays, stored, file) for arrays in weights))


def filled(arrays: Arrays, stored: dict[str, np.ndarray], file: Path) -> Arrays:
    result = {}
    for name, ours in arrays.items():
        if not name.startswith("backbone."):
            result[name] = ours
            continue
        stem, ending = name.removeprefix("backbone.").rsplit(".", 1)
        theirs = f"{stem}.{ENDINGS[ending]}"
        if theirs not in stored:
            raise SystemExit(f"--weights: {file} has no {theirs}; is it this --backbone's?")
        value = stored[theirs].astype(np.float32)
        if ending == "kernel":
            value = value.transpose(2, 3, 1, 0)  # [out, in, h, w] to [h, w, in, out]
        if value.shape != ours.shape:
            raise SystemExit(
                f"--weights: {theirs} in {file} has shape {stored[theirs].shape}, "
                f"which does not fit {ours.shape}; is it this --backbone's?"
            )
        result[name] = value
    return result

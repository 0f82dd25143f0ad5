"""The options of train.py: from the command line, from a file, and back into a file."""

import dataclasses
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal

import tyro
import yaml

from segmentation import checkpoints, images, ranges
from segmentation.layouts import LayoutName, Split
from segmentation.models import BackboneName, ModelName
from segmentation.writing import write_whole

LossName = Literal["rmi", "softmax", "sigmoid"]


@dataclass(frozen=True)
class Rmi:
    """Options of --loss rmi."""

    activation: Literal["softmax", "sigmoid"] = "softmax"
    """Turns logits into probabilities, for RMI and the cross entropy. The paper has sigmoid."""
    factor: tuple[int, ...] = (1,)
    """Pixels per cell; 1 is full resolution, the paper has 4. Several are scales that add up."""
    region_size: int = 3
    """Cells along each side of a region."""
    downsampling: Literal["avg", "max", "interpolate"] = "avg"
    """From pixels to cells."""
    bce_weight: float = 0.5
    """Weight of the cross entropy, after a warm-up if there is one; RMI has the rest."""
    anchor: float = 0.01
    """Prefers the truth over filtered copies of it; from 0 (the paper's loss) to 1e6."""
    warmup: float = 0.0
    """Share of all steps on cross entropy alone, from 0 to 1."""
    transition: float = 0.1
    """Share of all steps over which the weight then goes down from 1 to bce_weight."""


@dataclass(frozen=True)
class Hosts:
    """For several processes. Each runs the same command, but for --hosts.index."""

    coordinator: str | None = None
    """HOST:PORT of process 0, or "auto" where JAX finds it (TPU pods, SLURM, ...)."""
    count: int = 1
    """Number of processes."""
    index: int = 0
    """Which one this is."""
    timeout: int = 60
    """Seconds without a sign of life after which a process counts as dead, and all stop."""


@dataclass(frozen=True)
class Config:
    """Trains a network for semantic segmentation.

    Started again with the same options, it goes on from the last checkpoint in --output.
    """

    data: LayoutName = "water"
    """Layout of the data set. water and land-cover ship with the examples."""
    root: Path | None = None
    """The data set's folder."""
    table: Path | None = None
    """For --data folder: the file that names the classes."""
    fold: int = 0
    """For --data isbi: which fifth of the slices is the split test."""
    max_pixels: int = images.LIMIT
    """Larger pictures are refused, since their files may be made to fill the memory."""
    train_split: Split = "train"
    """Pictures to train on."""
    eval_split: Split = "val"
    """Pictures for the scores."""
    check_data: bool = False
    """Only read every file once, list what is wrong, and stop."""

    model: ModelName = "deeplabv3plus"
    """DeepLabV3+ with output stride 16, or the quick start's small U-Net."""
    backbone: BackboneName = "resnet101"
    """Of deeplabv3plus."""
    weights: Path | None = None
    """safetensors file of torchvision's ResNet, to start the backbone from."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number type of the network's layers. Parameters, statistics and the loss are float32."""

    loss: LossName = "rmi"
    """RMI with cross entropy; softmax and sigmoid are the cross entropies alone."""
    rmi: Rmi = field(default_factory=Rmi)

    steps: int = 30_000
    """Updates of the parameters."""
    batch: int = 16
    """Crops in each update, over all devices and processes."""
    accumulate: int = 1
    """Parts that a batch is cut into, one after the other, to save memory."""
    crop: tuple[int, int] = (513, 513)
    """Height and width in pixels, in training and of the sliding window."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest factor by which pictures are scaled at random."""
    seed: int = 0
    """Decides the initial weights, the crops and dropout."""
    workers: int = 0
    """Processes that read data; 0 reads in threads of this one."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd has momentum 0.9, as in the paper."""
    learning_rate: float = 0.007
    """The highest one: it may rise at first, and decays to 0."""
    head_rate: float = 1.0
    """Factor on the learning rate of all but the backbone; the authors use 5 after pretraining."""
    power: float = 0.9
    """Of the decay, learning_rate * (1 - step / steps) ** power."""
    warmup_steps: int = 0
    """Steps in which the learning rate first rises from 0."""
    weight_decay: float = 1e-4
    """On kernels, not on biases and normalization."""
    clip: float | None = None
    """Largest norm of the gradient."""
    ema: float | None = None
    """Decay of the moving average of the weights, which is then what is evaluated: say 0.999."""

    eval_every: int = 2_000
    """Steps from one evaluation to the next. The last step has one anyway."""
    eval_batch: int = 8
    """Windows in each step of an evaluation."""
    save_every: int = 500
    """Steps from one checkpoint to the next."""
    keep: int = 3
    """Number of checkpoints to keep."""
    log_every: int = 20
    """Steps over which logged values are averages."""
    output: Path = Path("outputs/train")
    """Folder for checkpoints, logs and the report."""
    hosts: Hosts = field(default_factory=Hosts)


# Options that may change when a run goes on, since they do not change what is trained. Paths are
# among them: the data found there are compared instead (`identity.py`).
FREE = {"check_data", "eval_every", "eval_batch", "save_every", "keep", "log_every", "hosts"}
FREE |= {"root", "table", "max_pixels", "output", "eval_split"}


FROM_FILE = """

--config FILE reads options from YAML, such as the config.yaml that a run leaves in --output. Flags
override it."""


def from_command_line(arguments: Sequence[str]) -> Config:
    """Reads flags. The options of ``--config FILE`` are their defaults, as ``--help`` shows."""
    # Looked for before the other flags; the full help text describes it.
    early = ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path)
    found, rest = early.parse_known_args(arguments)
    config = tyro.cli(
        Config,
        args=rest,
        default=Config() if found.config is None else from_file(found.config),
        description=cleandoc(Config.__doc__ or "") + FROM_FILE,
    )
    ranges.check(config)
    return config


def from_file(file: Path) -> Config:
    """Read as flags, since tyro checks their types, and only warns of a default's."""
    return tyro.cli(Config, args=flags(read(file)), prog=f"train.py --config {file}")


def to_dict(config: Config) -> dict[str, Any]:
    """Plain types, for YAML, without the options of one process and of one call."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        if isinstance(value, tuple):
            return list(value)
        return str(value) if isinstance(value, Path) else value

    options = plain(dataclasses.asdict(config))
    return {name: v for name, v in options.items() if name not in ("check_data", "hosts")}


def to_yaml(config: Config) -> str:
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def read(file: Path) -> dict[str, Any]:
    try:
        options = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SystemExit(f"--config: cannot read {file}: {error}") from error
    if not isinstance(options, dict):
        raise SystemExit(f"--config: {file} must hold lines of `option: value`")
    return options


def flags(options: dict[str, Any], prefix: str = "--") -> list[str]:
    """The same options as on a command line."""
    found = []
    for name, value in options.items():
        flag = prefix + str(name).replace("_", "-")
        if isinstance(value, dict):
            found += flags(value, f"{flag}.")
        elif isinstance(value, bool):
            found.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            found += [flag, *map(str, value)]
        else:
            found += [flag, str(value)]
    return found


def settle(config: Config, folder: Path) -> None:
    """Writes ``config.yaml``. If checkpoints do not tell the options, compares with the file first.

    A run without a checkpoint, perhaps since an option was wrong, may start again with others.
    """
    file, text, saved = folder / "config.yaml", to_yaml(config), folder / "checkpoints"
    if file.exists() and checkpoints.steps(saved) and checkpoints.record(saved) is None:
        refuse_others(read(file), config, folder)
    if not file.exists() or file.read_bytes() != text.encode():
        write_whole(file, text)


def refuse_others(before: dict[str, Any], config: Config, folder: Path) -> None:
    """Ends with a message, where a run began with other options."""
    now = to_dict(config)
    changed = [name for name in now if name not in FREE and before.get(name) != now[name]]
    if "weights" in changed and None not in (before.get("weights"), now["weights"]):
        changed.remove("weights")  # another path, perhaps to the same file
    if changed:
        lines = [f"  {name}: {before.get(name)} -> {now[name]}" for name in changed]
        raise SystemExit(
            f"{folder} holds a run with other options:\n" + "\n".join(lines) + "\n"
            "Choose another --output, or repeat the options it began with."
        )

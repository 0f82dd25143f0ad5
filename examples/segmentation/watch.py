"""Shows how a run goes: a progress bar, ``history.jsonl`` and TensorBoard."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from segmentation import hosts, objective, writing
from segmentation.config import Config
from segmentation.draw import strip
from segmentation.evaluation import Evaluation, iou, mean_iou
from segmentation.optimizer import learning_rate
from segmentation.step import Metrics

Record = dict[str, Any]


class Watch:
    """Only the first of several processes shows and writes anything."""

    def __init__(self, config: Config, classes: tuple[str, ...], folder: Path, step: int):
        self.config, self.classes = config, classes
        self.history = folder / "history.jsonl"
        records, damaged = read(self.history, len(classes))
        self.records = [r for r in records if is_before(r, step, config)]
        self.time, self.step = time.perf_counter(), step
        self.schedules = learning_rate(config), objective.bce_weight(config)
        self.bar = tqdm(
            initial=step,
            total=config.steps,
            unit="step",
            mininterval=1,
            dynamic_ncols=True,
            disable=not hosts.is_first(),
        )
        if hosts.is_first():
            # A run that goes on from a checkpoint repeats the steps after it: drop their records.
            writing.write_whole(self.history, "".join(map(line, self.records)))
            # Here, for tensorboardX imports PyTorch where that is installed, which takes seconds.
            from segmentation.board import Board

            self.board = Board(folder / "tensorboard", step + 1)
        if damaged:
            self.say(f"{self.history}: left out what is no record: line {damaged}")

    def trained(self, step: int, metrics: list[Metrics]) -> None:
        """Means over the steps since the last call."""
        stacked = jax.tree.map(lambda *values: np.stack(values), *metrics)
        parts = objective.mean(stacked.parts)
        seconds = (time.perf_counter() - self.time) / len(metrics)
        rate, weight = (np.asarray(schedule(step - 1)).item() for schedule in self.schedules)
        seen = parts.images > 0
        information = np.where(seen, parts.mutual_information, np.nan)
        record = {
            "step": step,
            "loss": float(stacked.loss.mean()),
            "cross_entropy": float(parts.cross_entropy.sum()),
            "rmi": float(parts.rmi.sum()),
            "information": float(information[seen].mean()) if seen.any() else math.nan,
            "gradient_norm": float(stacked.gradient_norm.mean()),
            "learning_rate": rate,
            "bce_weight": weight,
            "seconds": seconds,
            "information_per_class": information.tolist(),
            "slope_per_class": np.where(seen, parts.slope, np.nan).tolist(),
        }
        self.bar.set_postfix(
            loss=f"{record['loss']:.3f}", MI=f"{record['information']:.2f}", refresh=False
        )
        self.add(record, "train")
        self.time = time.perf_counter()

    def evaluated(self, step: int, result: Evaluation) -> None:
        record = {
            "step": step,
            "miou": mean_iou(result.matrix),
            "accuracy": float(np.trace(result.matrix) / max(result.matrix.sum(), 1)),
            "iou_per_class": iou(result.matrix).tolist(),
        }
        self.add(record, "eval")
        self.say(f"step {step}: mIoU {100 * record['miou']:.2f} %")
        self.time = time.perf_counter()

    def pictures(self, step: int, result: Evaluation, colours: np.ndarray) -> None:
        if hosts.is_first():
            for number, picture in enumerate(result.first):
                image = strip(picture, colours)
                self.board.image(f"sample/{number}", image, step)
            self.board.flush()

    def add(self, record: Record, kind: str) -> None:
        self.records.append(record)
        if not hosts.is_first():
            return
        writing.append(self.history, line(record))
        for name, value in record.items():
            if name.endswith("_per_class"):
                name = name.removesuffix("_per_class")
                for label, entry in zip(self.classes, value, strict=True):
                    if not math.isnan(entry):
                        self.board.scalar(f"{name}/{label}", entry, record["step"])
            elif name != "step" and not math.isnan(value):
                self.board.scalar(f"{kind}/{name}", value, record["step"])
        self.board.flush()

    def advance(self, step: int) -> None:
        self.bar.update(step - self.step)
        self.step = step

    def say(self, message: str) -> None:
        if hosts.is_first():
            self.bar.write(message)

    def close(self) -> None:
        self.bar.close()
        if hosts.is_first():
            self.board.close()


def is_before(record: Record, step: int, config: Config) -> bool:
    """Whether a run that goes on from this step has the record behind it.

    The last evaluation follows the last checkpoint, so it always comes again.
    """
    is_last_score = "miou" in record and record["step"] == config.steps
    return record["step"] <= step and not is_last_score


@contextmanager
def watching(*arguments: Any) -> Iterator[Watch]:
    watch = Watch(*arguments)
    try:
        yield watch
    finally:
        watch.close()


def read(history: Path, classes: int) -> tuple[list[Record], str]:
    """What was written, and the numbers of lines that are no records, as text.

    The last line is none of them, if a killed process left it half-way.
    """
    if not history.exists():
        return [], ""
    *lines, _ = history.read_bytes().split(b"\n")
    records, damaged = [], []
    for number, text in enumerate(lines, start=1):
        try:
            record = {name: known(value) for name, value in json.loads(text).items()}
        except (ValueError, AttributeError, RecursionError):
            record = {}
        if is_record(record, classes):
            records.append(record)
        else:
            damaged.append(str(number))
    return records, ", ".join(damaged)


def is_record(record: Record, classes: int) -> bool:
    """Whether it has a step, numbers, and as many of them as classes where it should."""
    return type(record.get("step")) is int and all(
        isinstance(value, list) and len(value) == classes and all(map(is_number, value))
        if name.endswith("_per_class")
        else is_number(value)
        for name, value in record.items()
    )


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# JSON has neither NaN nor infinity: null stands for both.


def known(value: Any) -> Any:
    if isinstance(value, list):
        return [known(entry) for entry in value]
    return math.nan if value is None else value


def unknown(value: Any) -> Any:
    if isinstance(value, list):
        return [unknown(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def line(record: Record) -> str:
    values = {name: unknown(value) for name, value in record.items()}
    return f"{json.dumps(values, allow_nan=False)}\n"

"""Checks before a run. They write nothing."""

from segmentation import hosts, objective
from segmentation.config import Config
from segmentation.dataset import IGNORED, Dataset
from segmentation.layouts import Split, open_dataset
from segmentation.problems import BadData


def opened(config: Config, split: Split) -> Dataset:
    return open_dataset(
        config.data,
        config.root,
        split,
        table=config.table,
        fold=config.fold,
        max_pixels=config.max_pixels,
    )


def check(config: Config, train: Dataset, test: Dataset) -> None:
    """Ends with a message that says what is wrong with the options or the data."""
    if config.root is not None and config.root.resolve() == config.output.resolve():
        raise SystemExit(f"--output {config.output} is the data set's folder: choose another one")
    if config.output.exists() and not config.output.is_dir():
        raise SystemExit(f"--output {config.output} is a file, not a folder")
    check_data(config, {config.train_split: train, config.eval_split: test})
    objective.check(config, len(train.classes))
    hosts.placement(config.batch, config.accumulate)


def check_data(config: Config, splits: dict[str, Dataset]) -> None:
    """Raises BadData for a data set that nothing can be learnt from.

    As a rule this reads one picture of each split.
    """
    for split, dataset in splits.items():
        if not any((dataset.read(i)[1] != IGNORED).any() for i in range(len(dataset))):
            raise BadData(
                f"{config.root or config.data}, split {split}: not a single pixel in the masks of "
                f"its {len(dataset)} pictures is labelled with a class, all are ignored pixels"
            )

"""What must hold before a run, found without writing anything."""

from segmentation import hosts, objective
from segmentation.config import Config
from segmentation.dataset import IGNORED, BadData, Dataset


def check(config: Config, train: Dataset, test: Dataset) -> None:
    """Ends with a message that says what is wrong with the options or the data."""
    check_data(config, {config.train_split: train, config.eval_split: test})
    objective.check(config, len(train.classes))
    hosts.placement(config.batch, config.accumulate)
    if config.root is not None and config.root.resolve() == config.output.resolve():
        raise SystemExit(f"--output {config.output} is the data set's folder: choose another one")
    if config.output.exists() and not config.output.is_dir():
        raise SystemExit(f"--output {config.output} is a file, not a folder")


def check_data(config: Config, splits: dict[str, Dataset]) -> None:
    """Raises BadData for a data set that nothing can be learnt from."""
    for split, dataset in splits.items():
        where = f"{config.root or config.data}, split {split}"
        if len(dataset.classes) < 2:
            raise BadData(
                f"{where}: there is one class, {dataset.classes[0]!r}, and nothing to tell it "
                "from; name a second one in the table of classes, such as the background"
            )
        if not any((dataset.read(i)[1] != IGNORED).any() for i in range(len(dataset))):
            raise BadData(f"{where}: no pixel of its {len(dataset)} masks is labelled with a class")

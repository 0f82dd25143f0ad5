"""Looks through all files of a data set before a long run."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from segmentation.dataset import Dataset
from segmentation.problems import BadData


def check_data(dataset: Dataset, *, threads: int = 2) -> list[str]:
    """What is wrong, one line for each picture, in order; each names the file.

    Finds missing and unreadable files, masks of another size than their picture, and values that
    are not in the table of classes.
    """

    def problem(i: int) -> str | None:
        try:
            dataset.read(i)
        except BadData as error:
            return str(error)
        return None

    with ThreadPoolExecutor(threads) as pool:
        found: Iterable[str | None] = pool.map(problem, range(len(dataset)))
        bar = tqdm(found, total=len(dataset), desc="checking", unit="picture", mininterval=1)
        return [message for message in bar if message is not None]

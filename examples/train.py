"""Train a network for semantic segmentation on public data sets or a folder of your own.

    python examples/train.py --data voc --root DIR --model deeplabv3plus --loss rmi

`--help` lists all options, `README.md` beside this file has settings for public benchmarks.
"""

import io
import os
import sys

import matplotlib

from segmentation import config, hosts, loop, ownership, preflight
from segmentation.check import check_data
from segmentation.problems import BadData


def main(arguments: list[str]) -> None:
    options = config.from_command_line(arguments)
    try:
        if options.check_data:
            check(options)
            return
        hosts.connect(options.hosts)
        if hosts.is_first():
            print(config.to_yaml(options), flush=True)
        loop.run(options)
    except (BadData, loop.Stopped, ownership.Busy) as error:
        sys.stdout.flush()
        print(f"\n{error}", file=sys.stderr, flush=True)
        # At once: an ordinary exit would wait for other processes, which may be gone, and print the
        # errors of a background thread that cannot write either.
        os._exit(1)
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the last checkpoint.", file=sys.stderr)
        os._exit(130)


def check(options: config.Config) -> None:
    problems, datasets = [], {}
    for split in dict.fromkeys((options.train_split, options.eval_split)):
        dataset = preflight.opened(options, split)
        datasets[split] = dataset
        found = check_data(dataset)
        print(f"{split}: {len(dataset)} pictures, {len(found)} with problems")
        print(*dataset.left_out, sep="\n", end="\n" if dataset.left_out else "")
        problems += found
    if problems:
        raise BadData("\n".join(problems))
    preflight.check_data(options, datasets)


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for file names of any script
    matplotlib.use("agg")
    main(sys.argv[1:])

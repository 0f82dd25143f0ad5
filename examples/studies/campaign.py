"""Which run comes next: settings first, on the validation part, then seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from studies.trainer import Settings, settings_of, setup

RATES = (3e-3, 1e-3, 1e-2)
EARLY = 2  # seeds at the first learning rate, before the others are tried


def tuned_rate(runs: Sequence[dict[str, Any]], wanted: Settings) -> float:
    """The learning rate of the best mean IoU on the validation part, of those tried with seed 0."""
    tried = {}
    for run in runs:
        s = settings_of(run)
        same = s.loss == wanted.loss and setup(s) == setup(wanted)
        if same and s.seed == s.fold == 0:
            tried[s.rate] = run["validation"]["miou"]
    return max(tried, key=tried.__getitem__) if tried else wanted.rate


def plan(
    runs: list[dict[str, Any]],
    base: Settings,
    losses: Sequence[str],
    seeds: Sequence[int],
    rates: Sequence[float] = RATES,
) -> Iterator[Settings]:
    """Runs that are not there yet, one at a time; `runs` grows while they are made.

    First all losses with the first two seeds at the first learning rate, then seed 0 at the other
    rates, then all seeds at each loss's best rate. So a campaign that is stopped has about the same
    runs of every loss.
    """
    for seed in seeds[:EARLY]:
        for loss in losses:
            yield from _missing(runs, replace(base, loss=loss, rate=rates[0], seed=seed))
    for rate in rates:
        for loss in losses:
            yield from _missing(runs, replace(base, loss=loss, rate=rate, seed=0))
    for seed in seeds:
        for loss in losses:
            wanted = replace(base, loss=loss, seed=seed)
            yield from _missing(runs, replace(wanted, rate=tuned_rate(runs, wanted)))


def _missing(runs: Sequence[dict[str, Any]], wanted: Settings) -> Iterator[Settings]:
    if wanted not in map(settings_of, runs):
        yield wanted

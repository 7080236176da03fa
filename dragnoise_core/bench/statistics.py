"""Means over drags with bootstrap intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DragNoiseError

RESAMPLES = 4000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A statistic of `count` values and its 95% bootstrap interval; all None when there is no value."""

    mean: float | None
    low: float | None
    high: float | None
    count: int

    def text(self, digits: int = 2) -> str:
        """Return "mean [low, high]", or a dash when there is no value."""
        if self.count == 0:
            return "-"
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def summary(values: Sequence[float | None], seed: int = 0) -> Summary:
    """Return the mean of all values but None (could not be measured) with its interval."""
    return bootstrap([[value for value in values if value is not None]], lambda mean: mean, seed)


def ratio_of_means(values: Sequence[float], others: Sequence[float], seed: int = 0) -> Summary:
    """Return mean(values) / mean(others) with its interval; both are of the same drags, in the same order."""
    return bootstrap([values, others], torch.div, seed)


def mean_difference(values: Sequence[float], others: Sequence[float], seed: int = 0) -> Summary:
    """Return mean(values) - mean(others) with its interval; both are of the same drags, in the same order."""
    return bootstrap([values, others], torch.sub, seed)


def bootstrap(columns: Sequence[Sequence[float]], statistic: Callable[..., Tensor], seed: int = 0) -> Summary:
    """Return a statistic of the columns' means with its percentile interval (Efron and Tibshirani 1993, chapter 13).

    columns: K measures of the same n drags; a drag is resampled with all its measures. statistic: K tensors of
    means -> tensor of the same shape. Raises DragNoiseError for columns of different lengths or numbers not finite.
    """
    if len({len(column) for column in columns}) != 1:
        raise DragNoiseError(f"columns have {[len(column) for column in columns]} values; measure the same drags.")
    values = torch.tensor([list(column) for column in columns], dtype=torch.float64)
    count = values.shape[1]
    if count == 0:
        return Summary(None, None, None, 0)
    if not torch.isfinite(values).all():
        raise DragNoiseError("a measure is not finite; leave such a drag out (None) or mend its method.")
    chosen = torch.randint(count, (RESAMPLES, count), generator=torch.Generator().manual_seed(seed))
    resampled = statistic(*(column[chosen].mean(1) for column in values))
    tail = (1 - CONFIDENCE) / 2
    low, high = resampled.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    mean = float(statistic(*values.mean(1)))
    # A ratio to zero has no value.
    return Summary(mean, low, high, count) if math.isfinite(mean + low + high) else Summary(None, None, None, 0)

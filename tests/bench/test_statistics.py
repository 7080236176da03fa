"""Bootstrap intervals against closed forms; the tables that hold them."""

import math

import pytest
import torch

from dragnoise_core.bench.statistics import Summary, bootstrap, mean_difference, ratio_of_means, summary
from dragnoise_core.bench.table import markdown_table
from dragnoise_core.errors import DragNoiseError


def normal(count, seed, mean=10.0, deviation=3.0):
    return mean + deviation * torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_interval_of_many_values_is_that_of_the_normal_approximation():
    values = normal(400, 1)
    found = summary(values.tolist())
    half = 1.96 * values.std(correction=0).item() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean().item()) and found.count == 400
    assert found.low == pytest.approx(found.mean - half, abs=0.1 * half)
    assert found.high == pytest.approx(found.mean + half, abs=0.1 * half)


def test_the_interval_of_a_share_has_the_quantiles_of_the_binomial_distribution():
    cumulated = torch.tensor([math.comb(10, k) / 2**10 for k in range(11)]).cumsum(0)
    low, high = (int((cumulated >= level).nonzero()[0]) / 10 for level in (0.025, 0.975))
    found = summary([0.0, 1.0] * 5)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, low, high))


def test_the_interval_of_a_ratio_is_that_of_the_delta_method():
    a, b = normal(500, 2, 4.0, 1.0), normal(500, 3, 8.0, 1.5)
    found = ratio_of_means(a.tolist(), b.tolist())
    ratio = (a.mean() / b.mean()).item()
    relative = math.sqrt((a.var() / a.mean() ** 2 + b.var() / b.mean() ** 2).item() / 500)
    half = 1.96 * ratio * relative
    assert found.mean == pytest.approx(ratio)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_pairs_stay_together():
    """Resampled apart, twice the values and three more would not be exactly that."""
    values = normal(50, 4).tolist()
    doubled = ratio_of_means([2 * value for value in values], values)
    assert (doubled.mean, doubled.low, doubled.high) == pytest.approx((2, 2, 2))
    more = mean_difference([value + 3 for value in values], values)
    assert (more.mean, more.low, more.high) == pytest.approx((3, 3, 3))


def test_the_same_seed_gives_the_same_interval():
    values = normal(30, 5).tolist()
    assert summary(values, 1) == summary(values, 1) != summary(values, 2)


def test_missing_values_are_left_out_and_none_left_is_a_dash():
    assert summary([1.0, None, 3.0]).mean == 2 and summary([1.0, None, 3.0]).count == 2
    assert summary([None, None]) == Summary(None, None, None, 0) and summary([]).text() == "-"
    assert ratio_of_means([1.0, 2.0], [0.0, 0.0]).mean is None
    assert summary([1.0, 1.0]).text(1) == "1.0 [1.0, 1.0]"


@pytest.mark.parametrize("columns", [[[1.0], [1.0, 2.0]], [[math.inf]], [[math.nan, 1.0]]])
def test_what_has_no_mean_is_refused(columns):
    with pytest.raises(DragNoiseError):
        bootstrap(columns, lambda *means: means[0])


def test_a_table_has_a_cell_for_every_cell():
    text = markdown_table(["a|b", "value"], [["first", "1"], ["2nd", "1000.0"]])
    lines = text.splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[0].startswith("| a\\|b ") and lines[1].endswith("-: |") and lines[3].endswith("| 1000.0 |")

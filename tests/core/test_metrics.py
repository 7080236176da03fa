"""The metrics against closed forms and plain sums over windows."""

import math

import numpy
import pytest
import torch

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.metrics import mean_distance, psnr, ssim


def test_psnr_of_a_constant_difference():
    a = torch.full((1, 3, 8, 8), 0.5)
    assert psnr(a, a + 0.1) == pytest.approx(20, abs=1e-5)
    assert psnr(a, a) == math.inf


def test_psnr_counts_only_the_region():
    a, b = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    b[..., :2, :] = 0.1
    b[..., 2:, :] = 1.0
    region = torch.zeros(4, 4)
    region[:2] = 1
    assert psnr(a, b, region) == pytest.approx(20, abs=1e-5)
    with pytest.raises(DragNoiseError, match="region is empty"):
        psnr(a, b, torch.zeros(4, 4))


def test_mean_distance():
    assert mean_distance(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0], [1.0, 2.0]])) == 3


def test_ssim_equals_sums_over_every_window():
    a = numpy.random.default_rng(0).random((3, 30, 41))
    b = (a + 0.2 * numpy.random.default_rng(1).random(a.shape)).clip(0, 1)

    rows, columns = numpy.mgrid[-5:6, -5:6]
    window = numpy.exp(-(rows**2 + columns**2) / 4.5)
    window /= window.sum()

    def mean(x):
        return (numpy.lib.stride_tricks.sliding_window_view(x, (11, 11), (1, 2)) * window).sum((-1, -2))

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    wanted = ((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))).mean()
    assert ssim(torch.tensor(a)[None], torch.tensor(b)[None]) == pytest.approx(wanted, abs=1e-9)
    assert ssim(torch.tensor(a)[None], torch.tensor(a)[None]) == pytest.approx(1)


def test_different_and_small_pictures_are_refused():
    with pytest.raises(DragNoiseError, match=r"\(1, 3, 8, 8\) and \(1, 3, 8, 9\)"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
    with pytest.raises(DragNoiseError, match="sides from 11"):
        ssim(torch.zeros(1, 3, 8, 20), torch.zeros(1, 3, 8, 20))

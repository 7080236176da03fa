"""The metrics against closed forms and plain sums over windows."""

import math

import numpy
import pytest
import torch

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.metrics import colour_difference, mean_distance, psnr, sharpness, ssim


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


def test_sharpness_and_colour_are_those_of_the_region():
    region = torch.zeros(32, 32)
    region[8:24, 8:24] = 1
    slope = (torch.arange(32.0) / 64).expand(1, 3, 32, 32)
    assert sharpness(slope, region) == pytest.approx(1 / 64)
    assert sharpness(torch.lerp(slope.mean(3, keepdim=True), slope, 0.5), region) == pytest.approx(1 / 128)
    assert colour_difference(slope, slope + 3 / 255, region) == pytest.approx(3, abs=1e-4)
    # Every other pixel up and down is texture, not colour.
    texture = (torch.arange(32) % 2 * 2.0 - 1).expand(1, 3, 32, 32) * 0.1
    assert colour_difference(slope, slope + texture, region) < 0.12 * 255 * 0.1


def test_the_similarity_of_a_region_is_that_of_its_windows_alone():
    a = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(3))
    b = a.clone()
    b[..., 20:] = torch.rand(1, 3, 40, 20, generator=torch.Generator().manual_seed(4))
    left = torch.zeros(40, 40)
    left[:, :14] = 1
    assert ssim(a, b, left) == pytest.approx(1)
    assert ssim(a, b, 1 - left) < ssim(a, b) < 1
    with pytest.raises(DragNoiseError, match="region is empty"):
        ssim(a, b, torch.zeros(40, 40))

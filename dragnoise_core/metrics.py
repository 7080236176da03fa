"""How near two pictures are, and how near points came to their targets."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from .errors import DragNoiseError


def psnr(a: Tensor, b: Tensor, region: Tensor | None = None) -> float:
    """Return the peak signal-to-noise ratio in dB of two pictures [..., 3, H, W] in [0, 1]; infinite when equal.

    region: [H, W], what counts, weights in [0, 1]; None for all. Raises DragNoiseError for different shapes or an
    empty region.
    """
    _check_same_shape(a, b)
    squares = (a.double() - b.double()).square()
    weights = torch.ones_like(squares) if region is None else region.to(squares).expand_as(squares)
    total = float(weights.sum())
    if total == 0:
        raise DragNoiseError("the region is empty; mark at least one pixel to compare.")
    error = float((squares * weights).sum()) / total
    return math.inf if error == 0 else -10 * math.log10(error)


def mean_distance(points: Tensor, targets: Tensor) -> float:
    """Return the mean distance of points from targets, both [N, 2], in their unit (DragDiffusion's MD)."""
    _check_same_shape(points, targets)
    return float((points.double() - targets.double()).norm(dim=-1).mean())


def ssim(a: Tensor, b: Tensor, region: Tensor | None = None) -> float:
    """Return the structural similarity of two pictures [1, C, H, W] in [0, 1], averaged over channels.

    Wang et al. 2004, equation 13: gaussian window of 11 x 11, deviation 1.5, K1 = 0.01, K2 = 0.03, windows that lie
    inside. region: [H, W], weights of the windows' centres; None for all alike. Raises DragNoiseError for different
    shapes, sides under 11 pixels and a region without a window.
    """
    _check_same_shape(a, b)
    if a.ndim != 4 or min(a.shape[-2:]) < 11:
        raise DragNoiseError(f"the pictures have shape {tuple(a.shape)}; SSIM needs [1, C, H, W], sides from 11 up.")
    offsets = torch.arange(-5, 6, dtype=torch.float64, device=a.device)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2)[None, None]

    def mean(x: Tensor) -> Tensor:
        return functional.conv2d(x.reshape(-1, 1, *x.shape[-2:]), window)

    a, b = a.double(), b.double()
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    similarity = (luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)).mean(0)[0]
    weights = torch.ones_like(similarity) if region is None else region[5:-5, 5:-5].to(similarity)
    if not weights.any():
        raise DragNoiseError("the region is empty; mark at least one pixel to compare, five from the border.")
    return float((similarity * weights).sum() / weights.sum())


def sharpness(picture: Tensor, region: Tensor) -> float:
    """Return the mean absolute difference of neighbouring pixels of a picture, [1, 3, H, W], in a region, [H, W]."""
    picture = picture.double()
    columns = functional.pad(picture.diff(dim=-1).abs().mean(1)[0], (0, 1))
    rows = functional.pad(picture.diff(dim=-2).abs().mean(1)[0], (0, 0, 0, 1))
    return float(((columns + rows) * region).sum() / region.sum())


def colour_difference(a: Tensor, b: Tensor, region: Tensor) -> float:
    """Return how far the colours of two pictures, [1, 3, H, W] in [0, 1], differ in a region, [H, W], in 1/255.

    Means over 9 x 9 pixels are compared, so that edges a little apart do not count as another colour.
    """
    _check_same_shape(a, b)
    means = functional.avg_pool2d((a - b).double(), 9, 1, 4, count_include_pad=False)
    return 255 * float((means.abs().mean(1)[0] * region).sum() / region.sum())


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise DragNoiseError(f"shapes {tuple(a.shape)} and {tuple(b.shape)} differ; compare equal sizes.")

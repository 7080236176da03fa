"""Measures without a model: drag accuracy (DAI), and what changed outside the mask."""

import torch
from torch import Tensor

from ...metrics import psnr

RADII = (1, 5, 10, 20)
EQUAL = 100.0  # dB; finite, and more than two different 8-bit pictures of a megapixel reach


def drag_accuracy(source: Tensor, dragged: Tensor, handles: Tensor, targets: Tensor, radius: int) -> float:
    """Return the drag accuracy index (Zhang et al., GoodDrag, 2024; lower is better).

    The squared difference, summed over the channels, of the patches round the handle in the source and round the
    target in the result, averaged over the patches' (2 radius + 1)^2 pixels and then over the pairs. source, dragged:
    [1, 3, H, W] in [0, 1]. handles, targets: pixels (x, y), [N, 2].

    The published code divides by the number of pairs twice, and by all of a patch's pixels where a border cuts it; its
    slices there are empty or of different sizes. Here the pixels that both patches have are averaged.
    """
    height, width = source.shape[-2:]
    errors = []
    for handle, target in zip(handles.tolist(), targets.tolist(), strict=True):
        left, top = (min(radius, handle[axis], target[axis]) for axis in (0, 1))
        right, bottom = (
            min(radius, side - 1 - handle[axis], side - 1 - target[axis]) for axis, side in ((0, width), (1, height))
        )
        patches = [
            picture[0, :, y - top : y + bottom + 1, x - left : x + right + 1].double()
            for picture, (x, y) in ((source, handle), (dragged, target))
        ]
        errors.append((patches[0] - patches[1]).square().sum(0).mean())
    return float(torch.stack(errors).mean())


def outside_psnr(source: Tensor, dragged: Tensor, mask: Tensor | None) -> float | None:
    """Return the PSNR in dB, at most 100, of what the mask, [H, W], 1 = may change, protects; None if nothing."""
    if mask is None or bool((mask > 0.5).all()):
        return None
    return min(psnr(source, dragged, (mask <= 0.5).float()), EQUAL)

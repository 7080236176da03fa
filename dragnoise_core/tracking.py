"""Point tracking: where the handle's feature is now."""

import torch
from torch import Tensor

from .supervision import GridSize, sample_patches


def track(feature: Tensor, reference: Tensor, points: Tensor, radius: int, grid: GridSize) -> Tensor:
    """Return, for each point, the cell within `radius` whose feature is nearest in L1 to its reference: [N, 2].

    DragNoise, section 3.3: a_i = argmin over the window around a_i of |F'_p - f_i^0|. feature: [1, C, H, W].
    reference: the original features at the original handles, [N, C]. points: [N, 2], whole cells of the grid.
    Cells outside the grid are no candidates. Runs on the points' device without a synchronisation.
    """
    window = sample_patches(feature, points, radius, grid)
    distance = (window - reference[:, :, None, None]).abs().sum(1)
    offset = torch.arange(-radius, radius + 1, device=points.device, dtype=points.dtype)
    inside_columns = _inside(points[:, :1] + offset, grid[0])[:, None, :]
    inside_rows = _inside(points[:, 1:] + offset, grid[1])[:, :, None]
    best = distance.masked_fill(~(inside_columns & inside_rows), torch.inf).flatten(1).argmin(1)
    return points + torch.stack((offset[best % len(offset)], offset[best // len(offset)]), 1)


def _inside(positions: Tensor, cells: int) -> Tensor:
    return (positions >= 0) & (positions < cells)

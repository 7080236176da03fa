"""Point tracking: where the handle's feature is now."""

import torch
from torch import Tensor
from torch.nn import functional

from .grid import GridSize
from .supervision import sample_patches

WARPED_RADIUS = 2  # cells around the place that a warp has brought a point to


def track(
    feature: Tensor,
    reference: Tensor,
    points: Tensor,
    radius: int,
    grid: GridSize,
    *,
    whole: bool = True,
    warped: Tensor | None = None,
    favour: float = 1.0,
) -> Tensor:
    """Return, for each point, the place within `radius` cells whose feature is nearest in L1 to its reference: [N, 2].

    DragNoise, section 3.3: a_i = argmin over the window around a_i of |F'_p - f_i^0|. feature: [1, C, H, W].
    reference: the original features at the original handles, [N, C]. points: [N, 2] on the grid. The candidates are
    whole cells away from the point, and inside the grid; unless `whole` is asked for, the minimum between the best one
    and its neighbours counts. warped: [N, 2], where a warp has put the points: they are found beside it unless the
    match is `favour` times worse than around `points`. Runs on the points' device without a synchronisation.
    """
    found, distance = _search(feature, reference, points, radius, grid, whole)
    if warped is None:
        return found
    there, distance_there = _search(feature, reference, warped, min(radius, WARPED_RADIUS), grid, whole)
    return torch.where(distance_there < favour * distance, there, found)


def _search(
    feature: Tensor, reference: Tensor, points: Tensor, radius: int, grid: GridSize, whole: bool
) -> tuple[Tensor, Tensor]:
    """Return the best place in the window around every point, [N, 2], and how far its feature is off, [N, 1]."""
    window = sample_patches(feature, points, radius, grid)
    distance = (window - reference[:, :, None, None]).abs().sum(1)
    offset = torch.arange(-radius, radius + 1, device=points.device, dtype=points.dtype)
    inside_columns = _inside(points[:, :1] + offset, grid[0])[:, None, :]
    inside_rows = _inside(points[:, 1:] + offset, grid[1])[:, :, None]
    distance = distance.masked_fill(~(inside_columns & inside_rows), torch.inf)
    smallest, best = distance.flatten(1).min(1, keepdim=True)
    row, column = best[:, 0] // len(offset), best[:, 0] % len(offset)
    tracked = points + torch.stack((offset[column], offset[row]), 1)
    return (tracked if whole else tracked + _between_cells(distance, row, column).to(points)), smallest


def _inside(positions: Tensor, cells: int) -> Tensor:
    return (positions >= 0) & (positions <= cells - 1)


def _between_cells(distance: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return how far from its smallest entry the minimum of a window lies, [N, 2], (x, y), half a cell at most.

    distance: [N, S, S]. Equiangular lines (Shimizu and Okutomi 2005): an L1 distance has a kink at its minimum, with
    slopes that are alike on both sides. Beside a border nothing is known, and the entry itself counts.
    """
    entries = functional.pad(distance, (1, 1, 1, 1), value=torch.inf).flatten(1)
    stride = distance.shape[-1] + 2
    here = ((row + 1) * stride + column + 1)[:, None]
    lowest = entries.gather(1, here)
    before, after = (entries.gather(1, torch.cat((here + side, here + side * stride), 1)) for side in (-1, 1))
    steepest = (torch.maximum(before, after) - lowest).clamp_min(torch.finfo(distance.dtype).tiny)
    return torch.nan_to_num(0.5 * (before - after) / steepest, nan=0.0)

"""What a mask says of how far things move along, where the points do not say it."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from .grid import GridPoints, GridSize, cell_centres

NEAR = 0.1  # of the grid's shorter side: what lies so near a handle is part of what is dragged
ALIKE = 0.25  # of the latent's deviation: cells that differ less show the same thing
GOES_ON = 0.3  # of the mask's border: where so much of it resembles what is dragged, that goes on beyond the mask


def masked_reach(points: GridPoints, clean: Tensor, mask: Tensor | None) -> GridPoints:
    """Return points with a reach over all that the mask lets move, where the mask holds the whole thing dragged.

    Who paints around a thing wants it moved; who paints within it, as inside a head, wants a part changed
    (`holds_thing`). Only for a single handle or a rigid body, and pairs without a reach of their own. clean: the
    unedited picture's latent, [1, C, h, w]. mask: [1, 1, h, w], 1 = may change.
    """
    handles = points.handles[points.moving]
    one_thing = points.rigid or len(handles) == 1
    if mask is None or not one_thing or not holds_thing(mask, clean, handles, points.grid):
        return points
    return replace(points, reaches=points.reaches.nan_to_num(float(sum(points.grid))))


def holds_thing(mask: Tensor, clean: Tensor, handles: Tensor, grid: GridSize) -> bool:
    """Return whether the thing that the handles, [N, 2] on the grid, lie on ends within the mask, [1, 1, h, w].

    It does where little of the mask's border resembles what is near a handle, in the latent, [1, C, h, w]. The
    picture's edge is no border.
    """
    forbidden = (mask < 0.5).float()
    border = (functional.max_pool2d(forbidden, 3, 1, 1) > forbidden).flatten().nonzero()[:, 0]
    if not len(border):
        return False
    size = tuple(clean.shape[-2:])
    distance = torch.cdist(cell_centres(size, grid, clean.device).to(handles), handles).amin(1)
    near = (distance <= distance.amin().clamp_min(NEAR * min(grid))).nonzero()[:, 0]
    cells = (clean / clean.std().clamp_min(1e-6)).float().flatten(2)[0].T
    difference = torch.cdist(cells[border], cells[near]).amin(1) / cells.shape[1] ** 0.5
    return bool((difference < ALIKE).float().mean() < GOES_ON)

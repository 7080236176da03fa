"""What a mask says of how far things move along, where the points do not say it."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from .dense_supervision import sample_places
from .grid import GridPoints, cell_centres
from .motion import carried

ALIKE = 0.2  # of the latent's deviation: cells that differ less show the same thing
ROOM = 0.93  # of what would leave the mask: so much of it must look like the mask's border


def masked_reach(points: GridPoints, clean: Tensor, mask: Tensor | None) -> GridPoints:
    """Return points with a reach over all that the mask lets move, where the mask leaves room for that (`has_room`).

    Who wants a thing moved paints around it and where it is to go; who wants a part of it changed paints no farther
    than it reaches. Only for a single handle or a rigid body, and pairs without a reach of their own. clean: the
    unedited picture's latent, [1, C, h, w]. mask: [1, 1, h, w], 1 = may change.
    """
    one_thing = points.rigid or int(points.moving.sum()) == 1
    if mask is None or not one_thing or not has_room(points, clean, mask):
        return points
    return replace(points, reaches=points.reaches.nan_to_num(float(sum(points.grid))))


def has_room(points: GridPoints, clean: Tensor, mask: Tensor) -> bool:
    """Return whether all within a mask, [1, 1, h, w], may follow the points without a part of it being cut off.

    What the motion would push across the mask's border must look like what lies along the border, in the latent,
    [1, C, h, w]: then it is background. The picture's own edge is no border.
    """
    places = cell_centres(tuple(clean.shape[-2:]), points.grid, clean.device).to(points.handles)
    moved = carried(places, points.handles[points.moving], points.targets[points.moving])
    inside = mask >= 0.5
    stays = sample_places(inside.float(), moved, points.grid) >= 0.5
    near_border = functional.max_pool2d((~inside).float(), 3, 1, 1) > 0
    pushed, border = ((inside & where).flatten().nonzero()[:, 0] for where in (~stays, near_border))
    if not len(pushed) or len(border) < 2:
        return False
    cells = clean.float().flatten(2)[0].T / clean.float().std().clamp_min(1e-6)
    difference = torch.cdist(cells[pushed], cells[border]) / cells.shape[1] ** 0.5
    difference[pushed[:, None] == border] = torch.inf
    return bool((difference.amin(1) < ALIKE).float().mean() > ROOM)

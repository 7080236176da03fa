"""Supervision of every place at once: what is near a handle moves along.

A handle's patch alone says little about the thing that it belongs to: the nose arrives and the face behind it is left
to the model. So all cells of the feature map are supervised, each with a weight.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .supervision import GridSize

BODY_RADIUS = 0.22  # of the grid's shorter side: handles that move as one rigid body take this much around them along
BODY_RESIDUAL = 0.07  # how far from rigid that may be, of the mean way
FAR = 0.25  # of the grid's shorter side, from the nearest path: what is farther away has to change more to be changed
NEGLIGIBLE = 10.0  # of a Gaussian's exponent


def lattice(size: tuple[int, int], grid: GridSize, device: torch.device) -> Tensor:
    """Return the centres of a map's cells, [H * W, 2], (x, y) on the supervision grid. size: the map's H and W."""
    columns, rows = (
        (torch.arange(count, device=device) + 0.5) * (cells / count) - 0.5
        for count, cells in ((size[1], grid[0]), (size[0], grid[1]))
    )
    return torch.cartesian_prod(rows, columns).flip(1)


def reach(body: bool, radius: float, grid: GridSize) -> float:
    """Return how far around a handle places move along, grid cells: `radius`, or more where the handles are a body."""
    return BODY_RADIUS * min(grid) if body else radius


def moving_share(origins: Tensor, handles: Tensor, around: Tensor | float) -> Tensor:
    """Return how much a place is to be what moved there, [M]: exp(-d^2 / 2 around^2).

    origins: where the places' content comes from, [M, 2]; d is their distance to the nearest of the handles, [N, 2].
    """
    exponent = torch.cdist(origins, handles).amin(1).square() / (2 * around**2)
    # Without the tail: gradients of denormal numbers take a CPU twice the time.
    return torch.exp(-exponent) * (exponent < NEGLIGIBLE)


def far_share(places: Tensor, handles: Tensor, targets: Tensor, grid: GridSize) -> Tensor:
    """Return how far places, [M, 2], are from what is dragged, 0 to 1, [M]: 1 - exp(-e^2 / 2 FAR^2).

    e: the distance to the nearest path from a handle to its target, [N, 2] each.
    """
    way = targets - handles
    along = ((places[:, None] - handles) * way).sum(-1) / way.square().sum(-1).clamp_min(1e-6)
    nearest = handles + along.clamp(0, 1)[..., None] * way
    from_path = (places[:, None] - nearest).norm(dim=-1).amin(1)
    return 1 - torch.exp(-from_path.square() / (2 * (FAR * min(grid)) ** 2))


def is_body(handles: Tensor, targets: Tensor) -> bool:
    """Return whether handles, [N, 2], go to their targets as one rigid body would: two of them the same way by the
    same length, more of them rigidly."""
    if len(handles) < 2:
        return False
    if len(handles) == 2:
        fitted = handles + (targets - handles).mean(0)
    else:
        fitted = rigidly(handles, handles, targets, torch.ones(len(handles), len(handles), device=handles.device))
    error = (fitted - targets).square().sum(1).mean().sqrt()
    return bool(error < BODY_RESIDUAL * (targets - handles).norm(dim=1).mean())


def carried(places: Tensor, handles: Tensor, moved: Tensor) -> Tensor:
    """Return where places, [M, 2], come to lie when handles, [N, 2], come to lie at `moved`, [N, 2].

    Rigid moving least squares (Schaefer et al. 2006): every place follows the rotation and translation that fit the
    handles best, the nearer ones more.
    """
    return rigidly(places, handles, moved, 1 / (torch.cdist(places, handles).square() + 1e-2))


def rigidly(places: Tensor, handles: Tensor, moved: Tensor, weights: Tensor) -> Tensor:
    """Return places, [M, 2], under each one's best rotation and shift of handles to `moved` by `weights`, [M, N]."""
    weights = weights / weights.sum(1, keepdim=True)
    centre, moved_centre = weights @ handles, weights @ moved
    before, after = handles - centre[:, None], moved - moved_centre[:, None]
    cosine = (weights * (before * after).sum(-1)).sum(1)
    sine = (weights * (before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0])).sum(1)
    length = (cosine.square() + sine.square()).sqrt()
    # A single handle, or all in one place, says nothing of a rotation.
    still = length < 1e-6
    cosine = torch.where(still, torch.ones_like(length), cosine / length.clamp_min(1e-6))
    sine = torch.where(still, torch.zeros_like(length), sine / length.clamp_min(1e-6))
    x, y = (places - centre).unbind(1)
    return torch.stack((cosine * x - sine * y, sine * x + cosine * y), 1) + moved_centre


def sample_places(feature: Tensor, places: Tensor, grid: GridSize) -> Tensor:
    """Return the features of a map, [1, C, H, W], at places [H * W, 2] on the grid, bilinearly: [1, C, H, W]."""
    span = torch.stack([places.new_full((), cells) for cells in grid])
    where = (2 * (places + 0.5) / span - 1).to(feature).view(1, *feature.shape[-2:], 2)
    return functional.grid_sample(feature, where, padding_mode="border", align_corners=False)


def lattice_loss(
    feature: Tensor,
    points: Tensor,
    handles: Tensor,
    targets: Tensor,
    places: Tensor,
    source: Tensor,
    around: Tensor,
    allowed: Tensor,
    *,
    grid: GridSize,
    step_length: float,
) -> Tensor:
    """Return the weighted L1 differences of a feature map to the unedited one's, moved along with the points.

    feature, source: [1, C, H, W]; feature is differentiable, source float32 or wider. points: where the handles,
    [N, 2], are now; they should get `step_length` nearer to their targets, and take along what is near them. places:
    the map's cells on the grid, [H * W, 2]. around: see `reach`. allowed: [H * W], where the mask lets the picture
    change. The differences are means over channels; a cell of the map counts for as many as it covers of the grid's.
    """
    offset = targets - points
    distance = offset.norm(dim=1, keepdim=True)
    ahead = points + offset / distance.clamp_min(1e-6) * distance.clamp_max(step_length)
    origins = carried(places, ahead, handles)
    moved = allowed * moving_share(origins, handles, around)
    difference = (feature - sample_places(source, origins, grid)).abs().mean(1).flatten()
    return (moved * difference).sum() * (grid[0] * grid[1] / len(places))

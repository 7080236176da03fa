"""Supervision of every place at once: what is near a handle moves along, what is far from all paths stays.

A handle's patch alone says little about the thing that it belongs to: the nose arrives and the face behind it is left
to the model. So all latent cells are supervised, each with a weight.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .supervision import GridSize

FAR = 16.0  # cells of the supervision grid from the nearest path at which a place begins to count as one that stays
BODY_RADIUS = 28.0  # three or more handles that move as one rigid body take this much around them along
BODY_RESIDUAL = 0.1  # how far from rigid that may be, of the mean way


def lattice(size: tuple[int, int], grid: GridSize, device: torch.device) -> Tensor:
    """Return the centres of the h x w latent cells, [h * w, 2], (x, y) on the supervision grid."""
    columns, rows = (
        (torch.arange(count, device=device) + 0.5) * (cells / count) - 0.5
        for count, cells in ((size[1], grid[0]), (size[0], grid[1]))
    )
    return torch.cartesian_prod(rows, columns).flip(1)


def lattice_weights(
    places: Tensor, handles: Tensor, targets: Tensor, radius: float, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return how much each place is to move along and how much it is to stay, [M] each, in [0, 1].

    places: [M, 2]; handles, targets: [N, 2], all on the supervision grid. With d the distance to the nearest handle
    and e that to the nearest path from handle to target: exp(-d^2 / 2 radius^2) and 1 - exp(-e^2 / 2 FAR^2).
    allowed: [M], where the mask lets the picture change; with one, what is outside stays and nothing else need.
    """
    if is_body(handles, targets):
        radius = BODY_RADIUS
    near = torch.cdist(places, handles).amin(1)
    moves = torch.exp(-near.square() / (2 * radius**2))
    if allowed is not None:
        return moves * allowed, 1 - allowed
    way = targets - handles
    along = ((places[:, None] - handles) * way).sum(-1) / way.square().sum(-1).clamp_min(1e-6)
    nearest = handles + along.clamp(0, 1)[..., None] * way
    from_path = (places[:, None] - nearest).norm(dim=-1).amin(1)
    return moves, 1 - torch.exp(-from_path.square() / (2 * FAR**2))


def is_body(handles: Tensor, targets: Tensor) -> bool:
    """Return whether three or more handles, [N, 2], go to their targets as one rigid body would."""
    if len(handles) < 3:
        return False
    residual = rigidly(handles, handles, targets, torch.ones(len(handles), len(handles), device=handles.device))
    error = (residual - targets).square().sum(1).mean().sqrt()
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
    """Return the features, [M, C], of a map [1, C, H, W] at places [M, 2] on the grid, bilinearly; float32 or wider."""
    feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
    span = torch.stack([places.new_full((), cells) for cells in grid])
    where = (2 * (places + 0.5) / span - 1).to(feature)
    options = {"mode": "bilinear", "padding_mode": "border", "align_corners": False}
    return functional.grid_sample(feature, where[None, None], **options)[0, :, 0].T


def lattice_loss(
    feature: Tensor,
    points: Tensor,
    handles: Tensor,
    targets: Tensor,
    places: Tensor,
    source: Tensor,
    moves: Tensor,
    stays: Tensor,
    *,
    grid: GridSize,
    step_length: float,
    stillness: float,
    cells: float,
) -> Tensor:
    """Return the weighted L1 differences between features where they should be and the source's where they were.

    feature: [1, C, H, W], differentiable. points: where the handles, [N, 2], are now; they should get `step_length`
    nearer to their targets, and every place, [M, 2], as they carry it. source: the unedited picture's features at the
    places, [M, C]. moves, stays: see `lattice_weights`; stillness: weight of what stays. cells: of the grid that a
    place stands for, so that the loss does not depend on how dense the lattice is.
    """
    offset = targets - points
    distance = offset.norm(dim=1, keepdim=True)
    ahead = points + offset / distance.clamp_min(1e-6) * distance.clamp_max(step_length)
    there = sample_places(feature, carried(places, handles, ahead), grid)
    loss = (moves * (there - source).abs().mean(1)).sum()
    if stillness:
        loss = loss + stillness * (stays * (sample_places(feature, places, grid) - source).abs().mean(1)).sum()
    return cells * loss

"""The motion of the plane that handles and targets describe, and how much of it each place makes."""

import torch
from torch import Tensor

RIGID_RESIDUAL = 0.07  # how far from rigid a body's motion may be, as a part of its mean length
STILL = 0.5  # cells: a handle that is to move by less is a pin
NEGLIGIBLE = 10.0  # of a Gaussian's exponent


def is_rigid(handles: Tensor, targets: Tensor) -> bool:
    """Return whether handles, [N, 2], go to their targets, [N, 2], as one rigid body, those apart that stay.

    A single handle does not tell; two can always be turned into place, so they have to move by the same shift.
    """
    moving = (targets - handles).norm(dim=1) >= STILL
    handles, targets = handles[moving], targets[moving]
    if len(handles) < 2:
        return False
    if len(handles) == 2:
        fitted = handles + (targets - handles).mean(0)
    else:
        fitted = rigidly(handles, handles, targets, torch.ones(len(handles), len(handles), device=handles.device))
    error = (fitted - targets).square().sum(1).mean().sqrt()
    return bool(error < RIGID_RESIDUAL * (targets - handles).norm(dim=1).mean())


def moving_share(origins: Tensor, handles: Tensor, radius: Tensor | float) -> Tensor:
    """Return how much of the motion a place makes, 0 to 1, [M]: exp(-d^2 / 2 radius^2), the largest of all handles'.

    origins: where the places' content comes from, [M, 2]; d is their distance to each of the handles, [N, 2].
    radius: one for all handles, or [N].
    """
    exponent = (torch.cdist(origins, handles).square() / (2 * radius**2)).amin(1)
    # Without the tail: with denormal numbers the gradient takes a CPU twice as long.
    return torch.exp(-exponent) * (exponent < NEGLIGIBLE)


def carried(places: Tensor, handles: Tensor, moved: Tensor) -> Tensor:
    """Return where places, [M, 2], come to lie when handles, [N, 2], are moved to `moved`, [N, 2].

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

"""What keeps a picture as it is where nothing moves while something is dragged: in the latent, and in the pixels."""

import torch
from torch import Tensor
from torch.nn import functional

from .grid import GridPoints, cell_centres

CHANGE_RADIUS = 2  # latent cells around a large change that may change as well
FAR = 0.25  # of the grid's shorter side, from the nearest path: where a change must be larger to stay
FAR_FACTOR = 3.0, 7.0  # how many times larger, for one point and for several: one says less of what moves
VISIBLE = 0.05  # of a pixel's range: a smaller change is not seen
PIXEL_RADIUS = 8  # pixels around a visible change that change as well, and over which that fades


def keep_background(
    denoised: Tensor, source: Tensor, *, threshold: float | Tensor | None, mask: Tensor | None = None
) -> Tensor:
    """Return an edited prediction of the clean latent that is the unedited one where nothing moved, [1, C, H, W].

    denoised, source: predictions of the edited and of the unedited clean latent at one noise level, [1, C, H, W].
    threshold: places that change less, in latent units, return to the source, and so does what the mask,
    [1, 1, H, W], 1 = may change, forbids; one for all or [1, 1, H, W], see `change_threshold`. None leaves all as it
    is.
    """
    if threshold is None:
        return denoised
    share = changed_share(denoised - source, threshold)
    return torch.lerp(source, denoised, (share if mask is None else share * mask).to(denoised))


def change_threshold(
    background: float, points: GridPoints, latent: Tensor, mask: Tensor | None
) -> float | Tensor | None:
    """Return the change, in latent units, that a place must exceed to stay: `background` for all, or [1, 1, h, w].

    Where neither a mask nor a rigid motion says what moves, it rises away from the paths to FAR_FACTOR times
    `background`. None for a background of 0, which keeps every change.
    """
    if not background:
        return None
    if mask is not None or points.rigid:
        return background
    size = tuple(latent.shape[-2:])
    places = cell_centres(size, points.grid, latent.device).to(points.handles)
    factor = FAR_FACTOR[len(points.handles) > 1] - 1
    return background * (1 + factor * far_share(places, points).view(1, 1, *size))


def far_share(places: Tensor, points: GridPoints) -> Tensor:
    """Return how far places, [M, 2] on the grid, are from what is dragged, 0 to 1, [M]: 1 - exp(-e^2 / 2 FAR^2).

    e: the distance to the nearest path, the straight line from a handle to its target.
    """
    motion = points.targets - points.handles
    along = ((places[:, None] - points.handles) * motion).sum(-1) / motion.square().sum(-1).clamp_min(1e-6)
    nearest = points.handles + along.clamp(0, 1)[..., None] * motion
    distance = (places[:, None] - nearest).norm(dim=-1).amin(1)
    return 1 - torch.exp(-distance.square() / (2 * (FAR * min(points.grid)) ** 2))


def keep_pixels(decoded: Tensor, *originals: tuple[Tensor, Tensor]) -> Tensor:
    """Return an edited picture with an original's own pixels where nobody would see a difference, [1, 3, H, W].

    An autoencoder alters every pixel a little, also where nothing was edited, and loses what is finer than it knows:
    that must not come back where something else has come to lie, so the border is wide and soft. decoded: the edited
    latent's picture. originals: pictures that no autoencoder has touched, each with what the autoencoder makes of it;
    where several agree with the edited one the last counts. [1, 3, H, W] each, black at 0 and white at 1.
    """
    picture = decoded
    for original, again in originals:
        squares = (decoded - again).square().mean(1, keepdim=True)
        share = _share(VISIBLE, squares, PIXEL_RADIUS)
        share = functional.avg_pool2d(share, 2 * PIXEL_RADIUS + 1, 1, PIXEL_RADIUS, count_include_pad=False)
        picture = torch.lerp(original.to(decoded), picture, share)
    return picture


def changed_share(change: Tensor, threshold: float | Tensor) -> Tensor:
    """Return how much of a place's change is to stay, [1, 1, H, W]: 1 / (1 + (threshold / d)^12).

    change: [1, C, H, W]. threshold: one for all places, or [1, 1, H, W]. d is the change's root mean square over
    channels and 3 x 3 cells, the largest of the places at most CHANGE_RADIUS cells away: what a moved thing leaves
    behind must not shine through beside it.
    """
    change = change.to(torch.promote_types(change.dtype, torch.float32))
    around = functional.pad(change.square().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    squares = functional.avg_pool2d(around, 3, 1)
    return _share(threshold, squares, CHANGE_RADIUS)


def _share(threshold: float | Tensor, squares: Tensor, radius: int) -> Tensor:
    """Return 1 / (1 + (threshold / d)^12), d^2 the largest of the squares, [1, 1, H, W], at most `radius` away."""
    largest = functional.max_pool2d(squares, 2 * radius + 1, 1, radius)
    # Steep: what stays by half shows two pictures at once.
    return 1 / (1 + (threshold**2 / largest) ** 6)

"""The picture as the motion alone would leave it: where everything comes from, without a tear, and the warp itself.

A warp of the plane keeps every eye and edge, which no attention over similar places does; it cannot turn a head or
open a mouth. So it says what the picture looks like for as long as the model does not know (`WarpedLook`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .dense_supervision import sample_places
from .grid import GridPoints, GridSize, cell_centres
from .motion import carried
from .points import DragPoints
from .reach import masked_reach
from .supervision import latent_mask

# Over how many times the longest way the motion fades out. A smoothstep's slope is 1.5: below that, places would fold.
FADING = 2.5
FADING_SINGLE = 3.0  # of one handle on its own: what bends more sharply a model takes for a fault, and wipes it
FADING_BEYOND_REACH = 1.8  # where a person, or a body, says how far things move along: soon, but without a fold
SINGLE_WHOLE = 0.06  # of the grid's shorter side: so far around a handle on its own all moves with it
RIGID_WHOLE = 0.4  # the same around a rigid body,
RIGID_WAYS = 2.0  # for every one of its handles at most so many longest ways: two raised eyebrows do not lift the head
UP_TO_PIN = 0.75  # of the way to the nearest pin, at most
PIN_RADIUS = 0.06  # of the grid's shorter side: how far around a pin things stay
# How well the model must predict the unedited picture to be asked what the edited one looks like, in deviations of
# its latent. The same for every model, schedule and number of steps: the error falls with the noise.
TRUSTED_ERROR = 0.035


def came_from(places: Tensor, points: GridPoints, allowed: Tensor | None = None) -> Tensor:
    """Return where what lies at `places`, [M, 2] on the grid, was before the motion, [M, 2].

    Near a target the handles' own motion (`carried`); away from it less and less, so that nothing tears.
    allowed: [M], 0 to 1, where anything may move; without it the picture's edges stay (`inside_frame`).
    """
    share = moved_share(places, points)[:, None]
    # The smaller of the two, for the product of two slopes could fold.
    share = torch.minimum(share, inside_frame(places, points)) if allowed is None else share * allowed[:, None]
    return places + share * (carried(places, points.targets, points.handles) - places)


def moved_share(places: Tensor, points: GridPoints) -> Tensor:
    """Return how far places, [M, 2], take part in the motion, 0 to 1, [M].

    All of it within a pair's reach of its target; without a reach, within SINGLE_WHOLE of a single one, RIGID_WHOLE
    around a rigid body (`from_body`), as far as its number of handles, its way and the pins allow, else at the target
    alone. From there it fades over FADING times the longest way, FADING_SINGLE of a single one, beyond a reach or a
    body over FADING_BEYOND_REACH times. None at a pin, nor at a handle that is to stay where it is.
    """
    moving, way, side = points.moving, points.longest_way, min(points.grid)
    targets, reaches, count = points.targets[moving], points.reaches[moving], int(moving.sum())
    if not count:
        return places.new_zeros(len(places))
    guess, guessed_fading = way.new_zeros(()), FADING
    if points.rigid:
        guess, guessed_fading = (RIGID_WAYS * count * way).clamp_max(RIGID_WHOLE * side), FADING_BEYOND_REACH
    elif count == 1:
        guess, guessed_fading = way.new_tensor(SINGLE_WHOLE * side), FADING_SINGLE
    pins = torch.cat((points.pins, points.targets[~moving]))
    from_pins = torch.cdist(pins, targets)
    if len(pins):
        # What stays is no part of what moves.
        guess = guess.minimum(UP_TO_PIN * from_pins.amin())
    unsaid = reaches.isnan()
    whole, fading = torch.where(unsaid, guess, reaches), torch.where(unsaid, guessed_fading, FADING_BEYOND_REACH)
    away = torch.cdist(places, targets)
    if points.rigid:
        away = torch.where(unsaid, from_body(places, targets), away)
    share = _faded(away - whole, fading * way).amax(1)
    if len(pins):
        # A pin's own fading ends before the nearest target: a handle arrives, whatever is pinned beside it.
        nearest = from_pins.amin(1).clamp_max(FADING * way)
        share = share * (1 - _faded(torch.cdist(places, pins), nearest)).amin(1)
    return share


def from_body(places: Tensor, targets: Tensor) -> Tensor:
    """Return how far places, [M, 2], are from the lines that join a body's targets, [N, 2], with their mean, [M, N]."""
    spokes, offsets = targets - targets.mean(0), places - targets.mean(0)
    dots, squares = offsets @ spokes.T, spokes.square().sum(1)
    along = (dots / squares.clamp_min(1e-6)).clamp(0, 1)
    distance = offsets.square().sum(1, keepdim=True) - along * (2 * dots - along * squares)
    return distance.clamp_min(0).sqrt()


def inside_frame(places: Tensor, points: GridPoints) -> Tensor:
    """Return how far places, [M, 2] on the grid, may move along each axis, 0 to 1, [M, 2].

    Nothing is known beyond the picture's edges, so what lies at one does not move away from it. The share grows to 1
    over FADING_BEYOND_REACH times the longest way, and is 1 at every target.
    """
    targets, span = points.targets[points.moving], places.new_tensor(points.grid)
    if not len(targets):
        return torch.ones_like(places)

    def from_edges(cells: Tensor) -> Tensor:
        return torch.stack((cells + 0.5, span - 0.5 - cells))

    width = from_edges(targets).amin(1, keepdim=True).clamp_max(FADING_BEYOND_REACH * points.longest_way)
    return (from_edges(places) / width.clamp_min(1e-6)).clamp(0, 1).amin(0)


def _faded(distance: Tensor, width: Tensor) -> Tensor:
    """Return 1 where distance is 0 or less, 0 where it is `width` or more, and a smoothstep between."""
    x = (distance / width.clamp_min(1e-6)).clamp(0, 1)
    return 1 - x.square() * (3 - 2 * x)


def soft_mask(mask: Tensor | None, size: tuple[int, int], width: float = 0.05) -> Tensor | None:
    """Return a mask, [1, 1, h, w], at a map's size, [H * W], falling to 0 towards its border from the inside.

    width: of the map's shorter side, how far inside the mask it is 1 again.
    """
    if mask is None:
        return None
    inside = functional.interpolate(mask.float(), size, mode="bilinear")
    radius = max(1, round(width * min(size)))
    mean = functional.avg_pool2d(functional.pad(inside, (radius,) * 4, mode="replicate"), 2 * radius + 1, 1)
    return (2 * mean - 1).clamp(0, 1).flatten()


def warped_picture(picture: Tensor, latent: Tensor, points: DragPoints, mask: Tensor | None = None) -> Tensor:
    """Return a picture, [1, 3, H, W] in [0, 1], with everything where the motion brings it.

    latent: its encoding, whose cells the motion is laid out on, [1, C, h, w]. mask: [H, W], any size, 1 = may change.
    Bicubic: what merely moved stays as sharp as it was.
    """
    size = tuple(picture.shape[-2:])
    inside = None if mask is None else latent_mask(mask, latent)
    placed = masked_reach(GridPoints.of(points, latent, whole=False), latent, inside)
    allowed = soft_mask(inside, size)
    origins = came_from(cell_centres(size, placed.grid, latent.device).to(placed.handles), placed, allowed)
    where = (2 * (origins + 0.5) / origins.new_tensor(placed.grid) - 1).view(1, *size, 2).to(picture)
    return functional.grid_sample(picture, where, "bicubic", "border", align_corners=False).clamp(0, 1)


def pinned(mask: Tensor | None, points: GridPoints, latent: Tensor) -> Tensor | None:
    """Return the mask, [1, 1, h, w], 1 = may change, over a latent, [1, C, h, w], with a soft hole around every pin."""
    if not len(points.pins):
        return mask
    size = tuple(latent.shape[-2:])
    places = cell_centres(size, points.grid, latent.device).to(points.pins)
    radius = places.new_tensor(PIN_RADIUS * min(points.grid))
    free = (1 - _faded(torch.cdist(places, points.pins), radius)).amin(1).view(1, 1, *size)
    return free if mask is None else mask * free


@dataclass(frozen=True, eq=False)
class WarpedLook:
    """What the picture looks like where the motion brings it.

    clean: the unedited picture's latent, model units, [1, C, H, W]. warped: that of the warped picture; None where
    there is only the latent, which is sampled between its cells then, and softer. origins: where the latent's cells
    were before the motion, [H * W, 2] on the grid. mask: [1, 1, H, W], 1 = may change.
    """

    clean: Tensor
    warped: Tensor | None
    origins: Tensor
    grid: GridSize
    mask: Tensor | None

    @classmethod
    def of(cls, points: GridPoints, clean: Tensor, warped: Tensor | None, mask: Tensor | None) -> "WarpedLook":
        """Lay the motion of the points out on the latent's cells."""
        size = tuple(clean.shape[-2:])
        places = cell_centres(size, points.grid, clean.device).to(points.handles)
        return cls(clean, warped, came_from(places, points, soft_mask(mask, size)), points.grid, mask)

    def on(self, denoised: Tensor, source: Tensor, strength: float) -> Tensor:
        """Return an edited prediction of the clean latent, [1, C, H, W], that looks like the warped picture.

        source: the unedited picture's prediction at the same noise level. Where the model predicts that one badly,
        its edited prediction is not to be trusted either, and the look counts, `strength` times, 0 to 1; where it
        predicts well it is the model's to say what turns, opens or comes to light (`believed`).
        """
        error = sample_places(prediction_error(source, self.clean), self.origins, self.grid)
        look = sample_places(source, self.origins, self.grid) if self.warped is None else self.warped
        share = strength * (1 - believed(error))
        if self.mask is not None:
            share = share * self.mask
        return torch.lerp(denoised, look.to(denoised), share.to(denoised))


def prediction_error(denoised: Tensor, clean: Tensor) -> Tensor:
    """Return how far a prediction of a clean latent is from it, in the latent's deviations, [1, 1, H, W].

    denoised, clean: [1, C, H, W]. The root mean square over channels and 3 x 3 cells, the largest of the neighbours'.
    """
    squares = (denoised - clean).float().square().mean(1, keepdim=True)
    mean = functional.avg_pool2d(functional.pad(squares, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return functional.max_pool2d(mean, 3, 1, 1).sqrt() / clean.float().std().clamp_min(1e-6)


def believed(error: Tensor) -> Tensor:
    """Return how far the model is believed where it errs so much: 1 / (1 + (error / TRUSTED_ERROR)^4)."""
    return 1 / (1 + (error / TRUSTED_ERROR) ** 4)

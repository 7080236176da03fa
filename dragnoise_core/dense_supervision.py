"""Dense supervision: every cell of the feature map is compared, each with a weight.

A handle's patch alone says little about the thing it belongs to: the nose arrives, and the model makes what it likes
of the face behind it. Here what is near a handle moves with it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from .configuration import OptimisationConfig
from .grid import GridPoints, GridSize, cell_centres
from .motion import carried, moving_share
from .supervision import step_ahead

RIGID_RADIUS = 0.22  # of the grid's shorter side: around handles that move as one rigid body


@dataclass(frozen=True)
class DenseSupervision:
    """Supervision of every place, by `dense_loss`; points lie anywhere on the grid. See `Supervision`."""

    config: OptimisationConfig
    grid: GridSize
    whole_cells: ClassVar[bool] = False

    def prepare(self, feature: Tensor, points: GridPoints, mask: Tensor | None) -> dict[str, Tensor]:
        """See `Supervision`."""
        size = tuple(feature.shape[-2:])
        places = cell_centres(size, self.grid, feature.device).to(points.handles)
        if mask is None:
            allowed = torch.ones_like(places[:, 0])
        else:
            allowed = functional.interpolate(mask, size, mode="bilinear").flatten().to(places)
        return {
            "handles": points.handles,
            "targets": points.targets,
            "places": places,
            "source": feature.to(places.dtype),
            "radius": moving_radius(points, self.config.supervision_radius),
            "allowed": allowed,
        }

    def loss(self, feature: Tensor, points: Tensor, known: dict[str, Tensor]) -> Tensor:
        """See `Supervision`."""
        return dense_loss(feature, points, **known, grid=self.grid, step_length=self.config.step_length)


def moving_radius(points: GridPoints, radius: float) -> Tensor:
    """Return how far around each handle things move with it, in cells, [N]: its reach, where it has one.

    Otherwise `radius`, at least 1, for handles on their own; around handles that move as one rigid body RIGID_RADIUS
    of the grid's shorter side, whatever `radius` says.
    """
    guess = RIGID_RADIUS * min(points.grid) if points.rigid else max(radius, 1)
    return torch.where(points.reaches.isnan(), guess, points.reaches)


def dense_loss(
    feature: Tensor,
    points: Tensor,
    handles: Tensor,
    targets: Tensor,
    places: Tensor,
    source: Tensor,
    radius: Tensor,
    allowed: Tensor,
    *,
    grid: GridSize,
    step_length: float,
) -> Tensor:
    """Return the weighted L1 difference of a feature map to the unedited one's, moved along with the points.

    feature, source: [1, C, H, W]; feature is differentiable, source float32 or wider. points: where the handles,
    [N, 2], are now; each should get `step_length` cells nearer to its target, with what lies around it. places: the
    map's cells on the grid, [H * W, 2]. radius: how far around each handle, [N], see `moving_share`. allowed:
    [H * W], where the mask lets the picture change. The differences are means over channels; each counts for as many
    cells of the grid as its place covers.
    """
    origins = carried(places, step_ahead(points, targets, step_length), handles)
    weights = allowed * moving_share(origins, handles, radius)
    difference = (feature - sample_places(source, origins, grid)).abs().mean(1).flatten()
    return (weights * difference).sum() * (grid[0] * grid[1] / len(places))


def sample_places(feature: Tensor, places: Tensor, grid: GridSize) -> Tensor:
    """Return the features of a map, [1, C, H, W], at places [H * W, 2] on the grid, bilinearly: [1, C, H, W]."""
    span = torch.stack([places.new_full((), cells) for cells in grid])
    where = (2 * (places + 0.5) / span - 1).to(feature).view(1, *feature.shape[-2:], 2)
    return functional.grid_sample(feature, where, padding_mode="border", align_corners=False)

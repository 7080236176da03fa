"""The supervision grid, on which points, radii and steps are measured."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import DragNoiseError
from .motion import STILL, is_rigid
from .points import DragPoints

GridSize = tuple[int, int]  # width, height
# Grid cells for each latent cell and axis: half the picture's resolution for an 8x autoencoder.
CELLS_PER_LATENT = 4
# Of a picture of 32 x 32 pixels; smaller ones have a single cell at the bottleneck or no neighbourhood at the tap.
MIN_LATENT_CELLS = 16


@dataclass(frozen=True, eq=False)
class GridPoints:
    """Handle and target points on the supervision grid.

    grid: its size in cells. handles, targets: [N, 2], (x, y), cell indices from 0, on the latent's device.
    rigid: whether the handles go to their targets as one rigid body, see `is_rigid`. reaches: [N], how far around each
    handle things move with it, NaN where nobody said. pins: [P, 2], what stays.
    """

    grid: GridSize
    handles: Tensor
    targets: Tensor
    rigid: bool
    reaches: Tensor
    pins: Tensor

    @classmethod
    def of(cls, points: DragPoints, latent: Tensor, *, whole: bool) -> "GridPoints":
        """Place points over a latent, [B, C, h, w]; at the nearest cells if `whole`."""
        grid = grid_size(latent)
        handles, targets = (cells.to(latent.device) for cells in points.on_grid(*grid, whole=whole))
        scaled = points.scaled(*grid)
        reaches = torch.tensor([torch.nan if reach is None else reach for reach in scaled.reaches])
        pins = torch.tensor(scaled.pins).reshape(-1, 2) - 0.5
        rigid = is_rigid(*points.on_grid(*grid, whole=False))
        return cls(grid, handles, targets, rigid, reaches.to(handles), pins.to(handles))

    @property
    def moving(self) -> Tensor:
        """Which handles are to move, [N]; the others are pins."""
        return (self.targets - self.handles).norm(dim=1) >= STILL

    @property
    def longest_way(self) -> Tensor:
        """The longest way from a handle to its target, in cells, a scalar."""
        return (self.targets - self.handles).norm(dim=1).amax()


def check_latent_size(latent: Tensor) -> None:
    """Raise DragNoiseError when the picture of a latent, [B, C, h, w], is too small to drag."""
    height, width = latent.shape[-2:]
    if min(height, width) < 2 or height * width < MIN_LATENT_CELLS:
        raise DragNoiseError(
            f"the picture is too small to drag: its latent is {width} x {height}, of {MIN_LATENT_CELLS} cells that are "
            "needed at least; scale it up, best to the size that the model was made for."
        )


def grid_size(latent: Tensor) -> GridSize:
    """Return the size of the grid over a latent, [B, C, h, w]."""
    return latent.shape[-1] * CELLS_PER_LATENT, latent.shape[-2] * CELLS_PER_LATENT


def cell_centres(size: tuple[int, int], grid: GridSize, device: torch.device) -> Tensor:
    """Return the centres of a map's cells, [H * W, 2], (x, y) on the supervision grid. size: the map's H and W."""
    columns, rows = (
        (torch.arange(count, device=device) + 0.5) * (cells / count) - 0.5
        for count, cells in ((size[1], grid[0]), (size[0], grid[1]))
    )
    return torch.cartesian_prod(rows, columns).flip(1)

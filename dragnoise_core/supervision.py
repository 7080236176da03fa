"""Motion supervision and the mask term: what the optimisation lowers.

Points live on the supervision grid, cells of a size that the caller chooses (half the picture's resolution in the
paper's code); features live on the tap's own, coarser map. The paper resizes the whole map to the grid bilinearly and
slices patches; here only the patches are computed, as products with the resize's weights. Same numbers, no large map.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from .configuration import OptimisationConfig
from .errors import DragNoiseError
from .grid import GridPoints, GridSize

# Keeps float16 gradients of the decoder away from underflow; neither descent feels the factor, so it is not undone.
FLOAT16_LOSS_SCALE = 1024.0


class Supervision(Protocol):
    """What the optimisation compares. Hashable: drags with equal settings share a CUDA graph.

    whole_cells: whether points lie at whole cells of the grid.
    """

    whole_cells: ClassVar[bool]

    def prepare(self, feature: Tensor, points: GridPoints, mask: Tensor | None) -> dict[str, Tensor]:
        """Return what stays the same during one level's steps.

        feature: the unedited picture's at the tap, [1, C, H, W]. mask: [1, 1, h, w], 1 = may change; None = all may.
        """

    def loss(self, feature: Tensor, points: Tensor, known: dict[str, Tensor]) -> Tensor:
        """Return the loss of an edited feature map, differentiable in it, for points, [N, 2]. known: prepared."""


@dataclass(frozen=True)
class PatchSupervision:
    """The paper's: the patch around every point, by `motion_loss`, in whole cells. See `Supervision`."""

    config: OptimisationConfig
    grid: GridSize
    whole_cells: ClassVar[bool] = True

    def prepare(self, feature: Tensor, points: GridPoints, mask: Tensor | None) -> dict[str, Tensor]:
        """See `Supervision`."""
        return {"targets": points.targets}

    def loss(self, feature: Tensor, points: Tensor, known: dict[str, Tensor]) -> Tensor:
        """See `Supervision`."""
        return motion_loss(
            feature,
            points,
            known["targets"],
            radius=self.config.supervision_radius,
            grid=self.grid,
            step_length=self.config.step_length,
            stop_distance=self.config.stop_distance,
        )


def sample_patches(feature: Tensor, centres: Tensor, radius: int, grid: GridSize) -> Tensor:
    """Return the (2 radius + 1)^2 patches of the map resized to `grid`, around `centres`: [N, C, 2r + 1, 2r + 1].

    feature: [1, C, H, W]. centres: [N, 2], (x, y) on the grid, need not be whole. A fractional centre blends the
    resized map's neighbouring cells bilinearly. Beyond the border the outermost cells repeat. Computed and returned
    in float32 or wider: the losses are differences of near equals.
    """
    feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
    columns = _patch_weights(centres[:, 0], radius, grid[0], feature.shape[-1]).to(feature)
    rows = _patch_weights(centres[:, 1], radius, grid[1], feature.shape[-2]).to(feature)
    return torch.einsum("nph,chw,nqw->ncpq", rows, feature[0], columns)


def motion_loss(
    feature: Tensor,
    points: Tensor,
    targets: Tensor,
    *,
    radius: int,
    grid: GridSize,
    step_length: float = 1.0,
    stop_distance: float = 2.0,
    template: Tensor | None = None,
) -> Tensor:
    """Return L_alignment (DragNoise, section 3.3): each point's patch should appear one step nearer its target.

    feature: [1, C, H, W], differentiable. points, targets: [N, 2] on the grid. template: the wanted patches,
    [N, C, 2r + 1, 2r + 1]; without it, the current ones at `points`, held constant. Points nearer than
    `stop_distance` cells do not count. The L1 difference is averaged over channels and summed over patch and points.
    """
    if template is None:
        template = sample_patches(feature.detach(), points, radius, grid)
    ahead = sample_patches(feature, step_ahead(points, targets, step_length), radius, grid)
    difference = (ahead - template).abs().mean(1).sum((1, 2))
    return (difference * ((targets - points).norm(dim=1) >= stop_distance)).sum()


def step_ahead(points: Tensor, targets: Tensor, length: float) -> Tensor:
    """Return points, [N, 2], moved towards their targets, [N, 2], by `length` cells but not beyond: a_i + v_i."""
    offset = targets - points
    distance = offset.norm(dim=1, keepdim=True)
    return points + offset / distance.clamp_min(1e-6) * distance.clamp_max(length)


def mask_loss(change: Tensor, mask: Tensor, sigma: float | Tensor) -> Tensor:
    """Return how much changes where nothing may: the L1 norm of `change` outside the mask.

    change: edited minus unedited latent after the step, [1, 4, H, W], sigma space at `sigma`; measured in
    variance-preserving scale as in the published code. mask: [1, 1, H, W], 1 = may change.
    """
    return (change * (1 - mask)).abs().sum() / (1 + sigma**2) ** 0.5


def prepare_mask_term(
    mask: Tensor, edited: Tensor, source: Tensor, source_epsilon: Tensor, step: tuple[float, float]
) -> dict[str, Tensor]:
    """Return what `mask_term` needs beside epsilon and stays the same during one level's steps, as tensors.

    mask: [1, 1, H, W]. edited, source: the edited and the unedited latent, sigma space, [1, 4, H, W]; source_epsilon:
    of the unedited one. step: sigma and sigma_next.
    """
    sigma, sigma_next = step
    return {
        "mask": mask,
        "change": edited - source,
        "source_epsilon": source_epsilon,
        "sigma_step": edited.new_full((), sigma_next - sigma),
        "sigma_next": edited.new_full((), sigma_next),
    }


def mask_term(
    epsilon: Tensor, mask: Tensor, change: Tensor, source_epsilon: Tensor, sigma_step: Tensor, sigma_next: Tensor
) -> Tensor:
    """Return the mask loss after the step that epsilon, [1, 4, H, W], takes; the rest is prepared."""
    # Differences first: the latents are large beside what the edit changes.
    return mask_loss(change + (epsilon - source_epsilon) * sigma_step, mask, sigma_next)


def latent_mask(mask: Tensor, latent: Tensor) -> Tensor | None:
    """Return `mask` at the latent's size, [1, 1, h, w], on its device; None for a full mask, which forbids nothing.

    mask: [H, W] or [1, H, W] of any size, in [0, 1], 1 = may change. A latent cell may change as much as any of its
    pixels may, so that thin strokes survive. Raises DragNoiseError for an empty mask or one of another shape.
    """
    if mask.ndim not in (2, 3) or (mask.ndim == 3 and mask.shape[0] != 1):
        raise DragNoiseError(f"the mask has shape {tuple(mask.shape)}; give one mask, [height, width].")
    mask = mask.to(latent.device, torch.float32).reshape(1, 1, *mask.shape[-2:])
    if not (torch.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1):
        raise DragNoiseError("the mask has values outside 0 to 1; give 1 where the picture may change, else 0.")
    if mask.max() == 0:
        raise DragNoiseError("the mask is empty, so nothing may change; paint where it may, or give no mask.")
    mask = functional.adaptive_max_pool2d(mask, latent.shape[-2:])
    return None if mask.min() == 1 else mask


def _patch_weights(centres: Tensor, radius: int, cells: int, size: int) -> Tensor:
    """Return, along one axis, the weights of `size` map entries for each cell of a patch: [N, 2 radius + 1, size]."""
    first = centres.floor()
    cell = torch.arange(-radius, radius + 1, device=centres.device)
    # Both cells that a fractional one lies between at once: on a GPU the number of operations is what costs.
    weights = _resize_weights(first[:, None, None] + torch.stack((cell, cell + 1)), cells, size)
    return torch.lerp(weights[:, 0], weights[:, 1], (centres - first)[:, None, None].to(weights))


def _resize_weights(positions: Tensor, cells: int, size: int) -> Tensor:
    """Return the bilinear weights with which a map of `size` entries is resized to `cells`, at whole `positions`."""
    source = ((positions.clamp(0, cells - 1) + 0.5) * (size / cells) - 0.5).clamp(0, size - 1)
    return (1 - (source[..., None] - torch.arange(size, device=positions.device)).abs()).clamp_min(0)

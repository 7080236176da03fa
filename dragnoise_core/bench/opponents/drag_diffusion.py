"""DragDiffusion: Shi et al., CVPR 2024, arXiv 2306.14435, sections 3.3 and 3.4."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...split_unet import Decoded
from ...supervision import motion_loss, sample_patches
from ...tracking import track
from ..tasks import Method, Outcome, Task
from .dragged_latent import DraggedLatent
from .reference_attention import sample_with_reference


@dataclass(frozen=True)
class DragDiffusionSettings:
    """The settings, as the paper's section 4.1 has them. Lengths are cells of half the picture's resolution.

    learning_rate: of Adam on the variance-preserving latent. iterations: gradient steps, at most.
    supervision_radius, tracking_radius: r1 and r2. mask_weight: lambda. reference_block: the first decoder block
    whose self-attention is the source's; 0 for all of them ("the upsampling blocks").
    stop_distance: a point nearer to its target than this has arrived; the paper gives none, so it is preset `paper`'s.
    """

    learning_rate: float = 0.01
    iterations: int = 80
    supervision_radius: int = 1
    tracking_radius: int = 3
    mask_weight: float = 0.1
    reference_block: int = 0
    stop_distance: float = 2.0


def drag_diffusion(settings: DragDiffusionSettings = DragDiffusionSettings()) -> Method:
    """Return the method with these settings."""

    def method(task: Task) -> Outcome:
        latent = DraggedLatent(task, settings.learning_rate, settings.mask_weight)
        points, iterations = drag_latent(latent, settings)
        found = sample_with_reference(
            task.unet, latent.x.detach(), task.noisy, task.sigmas, first_block=settings.reference_block
        )
        return Outcome(found, iterations, task.points.from_grid(points, *latent.grid).cpu())

    return method


def drag_latent(latent: DraggedLatent, settings: DragDiffusionSettings) -> tuple[Tensor, int]:
    """Alternate motion supervision and point tracking; return the points on the grid, [N, 2], and the steps taken."""
    reference = sample_patches(latent.source.feature, latent.handles, 0, latent.grid)[:, :, 0, 0]
    points, iterations = latent.handles, 0
    while True:
        decoded = latent.decode()
        if iterations:
            points = track(decoded.feature.detach(), reference, points, settings.tracking_radius, latent.grid)
        arrived = ((points - latent.targets).norm(dim=1) < settings.stop_distance).all()
        if arrived or iterations == settings.iterations:
            return points, iterations
        latent.step(_loss(latent, decoded, points, settings))
        iterations += 1


@torch.enable_grad()
def _loss(latent: DraggedLatent, decoded: Decoded, points: Tensor, settings: DragDiffusionSettings) -> Tensor:
    """Return equation 3: every patch should appear one cell further on, and nothing should change outside the mask."""
    loss = motion_loss(
        decoded.feature,
        points,
        latent.targets,
        radius=settings.supervision_radius,
        grid=latent.grid,
        stop_distance=settings.stop_distance,
    )
    return loss if latent.mask is None else loss + settings.mask_weight * latent.mask_loss(decoded)

"""FreeDrag: Ling et al., CVPR 2024, arXiv 2307.04684, section 4.

Where the paper leaves something open:
- Equation 1 adds up the features of a patch and equation 2 takes a plain L1 norm, while l = 1 fits neither hundreds of
  channels nor dozens of cells. Here the aggregate is the patch itself and the norm a mean over its channels and cells:
  a sum would let differences within the patch cancel out.
- lambda has a maximum that is not given; here it is that of the well-optimised case, 0.5.
- The learning rate for diffusion models is not given; here it is that of DragDiffusion, on which it builds, and so is
  the denoising under reference-latent-control: the two then differ in the dragging alone.
- The mask term's norm is a mean as well, for the same reason and so that it does not depend on the latent's size.
- The search stops at the target instead of passing it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import DragNoiseError
from ...supervision import GridSize, sample_patches
from ..tasks import Method, Outcome, Task
from .dragged_latent import DraggedLatent
from .reference_attention import sample_with_reference

CANDIDATES = 10  # places on the line that a search compares: 0.1 d, 0.2 d, ..., d


@dataclass(frozen=True)
class FreeDragSettings:
    """The settings, as the paper's sections 4.3 and 5.1 have them for diffusion models. Lengths are cells of half the
    picture's resolution.

    learning_rate: of Adam on the variance-preserving latent. iterations: gradient steps, at most; drag_iterations: of
    one drag to one place. radius: r, of the patches. expected: l, the difference in feature that a drag should start
    with, in the unit of the model's features: the paper has 1 for Stable Diffusion and 0.3 or 0.4 for StyleGAN2.
    reach: d, how far one drag may go. largest_weight: the maximum of lambda. mask_weight: gamma.
    reference_block: see DragDiffusionSettings. stop_distance: a place this near to its target is the last one.
    """

    learning_rate: float = 0.01
    iterations: int = 300
    drag_iterations: int = 5
    radius: int = 3
    expected: float = 1.0
    reach: float = 5.0
    largest_weight: float = 0.5
    mask_weight: float = 10.0
    reference_block: int = 0
    stop_distance: float = 2.0

    def __post_init__(self) -> None:
        if self.drag_iterations < 1:
            raise DragNoiseError(
                f"drag_iterations is {self.drag_iterations}; choose at least 1, or nothing ever moves."
            )


def free_drag(settings: FreeDragSettings = FreeDragSettings()) -> Method:
    """Return the method with these settings."""

    def method(task: Task) -> Outcome:
        latent = DraggedLatent(task, settings.learning_rate, settings.mask_weight)
        places, iterations = drag_latent(latent, settings)
        found = sample_with_reference(
            task.unet, latent.x.detach(), task.noisy, task.sigmas, first_block=settings.reference_block
        )
        return Outcome(found, iterations, task.points.from_grid(places, *latent.grid).cpu())

    return method


def difference(feature: Tensor, places: Tensor, template: Tensor, grid: GridSize) -> Tensor:
    """Return how far the feature at each place is from its template: the mean L1 difference, [N].

    feature: [1, C, H, W]. places: [N, 2] on the grid. template: [N, C, 2 r + 1, 2 r + 1].
    """
    patches = sample_patches(feature, places, template.shape[-1] // 2, grid)
    return (patches - template).abs().mean((1, 2, 3))


def update_weight(end: Tensor, expected: float, largest: float) -> Tensor:
    """Return lambda, [N], of drags that ended with the differences `end`, [N] (equations 4 to 6).

    One half at 0.2 l, a tenth at 0.8 l, where l is `expected`; at most `largest`.
    """
    alpha, beta = math.log(9) / (0.6 * expected), 0.2 * expected
    return torch.sigmoid(alpha * (beta - end)).clamp_max(largest)


def update_template(template: Tensor, patches: Tensor, weight: Tensor) -> Tensor:
    """Return the templates moved by `weight`, [N], towards `patches`; both [N, C, 2 r + 1, 2 r + 1] (equation 3)."""
    return template.lerp(patches, weight[:, None, None, None])


def search(
    feature: Tensor, start: Tensor, targets: Tensor, template: Tensor, reach: float, expected: float, grid: GridSize
) -> Tensor:
    """Return, on each way from `start` to its target, the place of the expected difference: [N, 2] (equation 8).

    start, targets: [N, 2] on the grid. Places up to `reach` cells ahead are compared, none beyond the target.
    """
    offset = targets - start
    distance = offset.norm(dim=1, keepdim=True)
    ahead = torch.arange(1, CANDIDATES + 1, device=start.device) * (reach / CANDIDATES)
    # [N, candidates, 2]
    places = start[:, None] + ahead.minimum(distance)[..., None] * (offset / distance.clamp_min(1e-6))[:, None]
    repeated = template.repeat_interleave(CANDIDATES, 0)
    differences = difference(feature, places.flatten(0, 1), repeated, grid).view(-1, CANDIDATES)
    best = (differences - expected).abs().argmin(1)
    return places[torch.arange(len(places), device=places.device), best]


def plan(
    feature: Tensor,
    places: Tensor,
    targets: Tensor,
    template: Tensor,
    begin: Tensor,
    end: Tensor,
    settings: FreeDragSettings,
    grid: GridSize,
) -> Tensor:
    """Return where to drag to next, [N, 2] (equation 9): further on, to the same place once more, or back.

    begin, end: the differences, [N], at the last drag's beginning and end. Back is where the template fits best.
    """
    reach, expected = settings.reach, settings.expected
    onward = search(feature, places, targets, template, reach, expected, grid)
    offset = targets - places
    behind = places - reach * offset / offset.norm(dim=1, keepdim=True).clamp_min(1e-6)
    back = search(feature, behind, targets, template, 2 * reach, 0.0, grid)
    stay = torch.where((end <= begin)[:, None], places, back)
    return torch.where((end <= 0.5 * expected)[:, None], onward, stay)


@torch.no_grad()
def drag_latent(latent: DraggedLatent, settings: FreeDragSettings) -> tuple[Tensor, int]:
    """Drag from place to place; return the last places on the grid, [N, 2], and the gradient steps taken."""
    grid, targets = latent.grid, latent.targets
    places, steps = latent.handles, 0
    decoded = latent.decode()
    template = sample_patches(decoded.feature, places, settings.radius, grid)
    # The drag 0 moves nothing and changes no template: lambda is 0, the difference 0.
    begin = end = torch.zeros(len(places), device=places.device)
    while steps < settings.iterations and ((places - targets).norm(dim=1) > settings.stop_distance).any():
        places = plan(decoded.feature, places, targets, template, begin, end, settings, grid)
        for iteration in range(settings.drag_iterations + 1):
            with torch.enable_grad():
                differences = difference(decoded.feature, places, template, grid)
                loss = differences.sum()
                if latent.mask is not None:
                    loss = loss + settings.mask_weight * latent.mask_loss(decoded) / latent.z.numel()
            end = differences.detach()
            begin = begin if iteration else end
            done = iteration == settings.drag_iterations or steps == settings.iterations
            if done or (end <= 0.5 * settings.expected).all():
                break
            latent.step(loss)
            steps += 1
            decoded = latent.decode()
        weight = update_weight(end, settings.expected, settings.largest_weight)
        template = update_template(template, sample_patches(decoded.feature, places, settings.radius, grid), weight)
    return places, steps

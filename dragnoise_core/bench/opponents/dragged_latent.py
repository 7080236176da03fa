"""The latent as the variable of a drag: what DragDiffusion and FreeDrag share."""

import torch
from torch import Tensor

from ...errors import DragNoiseError
from ...grid import grid_size
from ...schedule import check_sigmas, to_variance_exploding, to_variance_preserving
from ...split_unet import Decoded
from ...supervision import FLOAT16_LOSS_SCALE, latent_mask, mask_loss
from ..tasks import Task


class DraggedLatent:
    """The latent z of the task's first noise level under Adam, and the unedited one beside it.

    z: variance preserving, [1, 4, h, w], the scale that the papers' learning rates are for. handles, targets: [N, 2]
    on the supervision grid, `grid` cells (width, height). source: the unedited latent's feature and epsilon.
    The identity-preserving fine-tuning of the papers is left out, as it is for every method of the benches.
    Raises DragNoiseError for a latent of more than one picture, a bad schedule and an unusable mask.
    """

    def __init__(self, task: Task, learning_rate: float, mask_weight: float) -> None:
        check_sigmas(task.sigmas)
        if task.noisy.ndim != 4 or len(task.noisy) != 1:
            shape = tuple(task.noisy.shape)
            raise DragNoiseError(f"the latent has shape {shape}; drag one picture at a time, [1, channels, h, w].")
        self.unet = task.unet
        self.noisy = task.noisy
        self.learning_rate = learning_rate
        self.sigma, self.sigma_next = task.sigmas[:2].tolist()
        self.mask = latent_mask(task.mask, task.noisy) if task.mask is not None and mask_weight else None
        self.grid = grid_size(task.noisy)
        self.handles, self.targets = (cells.to(task.noisy.device) for cells in task.points.on_grid(*self.grid))
        with torch.no_grad():
            self.source = self._decoded(self.noisy, to_tap=False)
        self.z = to_variance_preserving(task.noisy, self.sigma).clone().requires_grad_(True)
        self.optimiser = torch.optim.Adam([self.z], lr=learning_rate)

    @property
    def x(self) -> Tensor:
        """The latent in sigma space, [1, 4, h, w], differentiable in z."""
        return to_variance_exploding(self.z, self.sigma)

    def decode(self) -> Decoded:
        """Return the feature and, where a mask needs it, epsilon, differentiable in z."""
        with torch.enable_grad():
            return self._decoded(self.x, to_tap=self.mask is None)

    def mask_loss(self, decoded: Decoded) -> Tensor:
        """Return the L1 norm of the change outside the mask, one DDIM step later (DragDiffusion, equation 3)."""
        change = (self.x - self.noisy) + (decoded.epsilon - self.source.epsilon) * (self.sigma_next - self.sigma)
        return mask_loss(change, self.mask, self.sigma_next)

    def step(self, loss: Tensor) -> None:
        """Take one gradient step on z. Raises DragNoiseError when it leaves the finite numbers."""
        scale = FLOAT16_LOSS_SCALE if self.source.feature.dtype == torch.float16 else 1.0
        with torch.enable_grad():
            (self.z.grad,) = torch.autograd.grad(loss * scale, [self.z])
        self.optimiser.step()
        if not torch.isfinite(self.z).all():
            raise DragNoiseError(
                f"the optimisation diverged at learning rate {self.learning_rate}; lower it, or use float32."
            )

    def _decoded(self, x: Tensor, *, to_tap: bool) -> Decoded:
        encoded = self.unet.encode_with_gradients(x, self.sigma)
        return self.unet.decode(encoded, encoded.bottleneck, to_tap=to_tap)

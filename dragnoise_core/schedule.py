"""Noise levels: the training table, DDIM's timesteps, and the two scalings of a noisy latent.

Sigma space (variance exploding) is x = x0 + sigma * epsilon; DDIM's papers write z = x / sqrt(1 + sigma^2)
(variance preserving), with sigma^2 = (1 - alpha_bar) / alpha_bar. In sigma space DDIM without noise is Euler's method.
"""

import math

import torch
from torch import Tensor

from .errors import DragNoiseError

# Stable Diffusion's training table.
TRAIN_STEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012


def scaled_linear_sigmas() -> Tensor:
    """Return Stable Diffusion's sigmas, ascending, [TRAIN_STEPS], float64: betas linear in their square root."""
    return sigmas_from_betas(torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float64) ** 2)


def sigmas_from_betas(betas: Tensor) -> Tensor:
    """Return sigma_t = sqrt((1 - alpha_bar_t) / alpha_bar_t) for betas [T], ascending, [T], float64.

    Betas rescaled to a terminal signal-to-noise ratio of zero (Lin et al. 2024) end at no signal at all, which no
    finite sigma expresses: alpha_bar is at least 2^-24, float16's smallest number, a sigma of 4096.
    """
    alpha_bar = torch.cumprod(1 - betas.double(), 0).clamp_min(2**-24)
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def ddim_timesteps(steps: int, train_steps: int = TRAIN_STEPS) -> list[int]:
    """Return `steps` timesteps, descending, as DDIM with leading spacing and an offset of one has them.

    50 steps give 981, 961, ..., 1. Raises DragNoiseError unless 1 <= steps < train_steps.
    """
    if not 1 <= steps < train_steps:
        raise DragNoiseError(f"steps is {steps}; choose a number from 1 to {train_steps - 1}.")
    stride = train_steps // steps
    return [1 + stride * index for index in reversed(range(steps))]


def ddim_sigmas(table: Tensor, steps: int, strength: float = 1.0) -> Tensor:
    """Return the noise levels of the last `round(steps * strength)` DDIM steps, descending, then table[0]: [k + 1].

    table: the model's sigmas, ascending, [T]. strength: in (0, 1]; the published 0.7 of 50 steps starts at t = 681.
    Raises DragNoiseError when `strength` is out of range or leaves no step.
    """
    timesteps = ddim_timesteps(steps, len(table))
    if not 0 < strength <= 1:
        raise DragNoiseError(f"strength is {strength}; choose a number above 0, at most 1.")
    count = round(steps * strength)
    if count < 1:
        raise DragNoiseError(f"strength {strength} of {steps} steps leaves no step; raise the strength or the steps.")
    return table[torch.tensor([*timesteps[-count:], 0])]


def check_sigmas(sigmas: Tensor) -> None:
    """Raise DragNoiseError unless `sigmas` is a descending list of at least two finite noise levels."""
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise DragNoiseError(f"the schedule has shape {tuple(sigmas.shape)}; give at least two noise levels in a row.")
    if not torch.isfinite(sigmas).all() or sigmas[-1] < 0 or not (sigmas[1:] < sigmas[:-1]).all():
        levels = sigmas.tolist()
        wrong = next(i for i, s in enumerate(levels) if not 0 <= s < math.inf or (i and s >= levels[i - 1]))
        raise DragNoiseError(
            f"the schedule of {len(levels)} sigmas does not descend: number {wrong + 1} is {levels[wrong]:g}"
            f"{f' after {levels[wrong - 1]:g}' if wrong else ''}; give finite sigmas from high to low."
        )


def nearest_timestep(table: Tensor, sigma: Tensor) -> Tensor:
    """Return the index into `table` whose sigma is nearest on a logarithmic scale; scalar tensors, on one device."""
    return (table.log() - sigma.to(table).clamp_min(table[0]).log()).abs().argmin()


def to_variance_preserving(x: Tensor, sigma: float) -> Tensor:
    """Scale a sigma-space latent to the variance-preserving one."""
    return x / math.sqrt(1 + sigma**2)


def to_variance_exploding(z: Tensor, sigma: float) -> Tensor:
    """Scale a variance-preserving latent to the sigma-space one."""
    return z * math.sqrt(1 + sigma**2)

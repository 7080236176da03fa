"""DDIM inversion: the noise from which sampling returns to a given picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .finite import check_finite
from .progress import Callback, Progress
from .schedule import check_sigmas, to_variance_exploding
from .split_unet import Decoded, SplitUNet, evaluate


@dataclass(frozen=True, eq=False)
class InversionPath:
    """A picture's DDIM inversion, from the noise to the picture.

    latents: sigma space, [B, 4, H, W] each, one for each of the schedule's levels. features: the tap's,
    [B, C, h, w] each, in the evaluations that led to the first latents; as many as were asked for, maybe none.
    """

    latents: Sequence[Tensor]
    features: Sequence[Tensor] = ()


@torch.no_grad()
def invert(
    unet: SplitUNet, latent: Tensor, sigmas: Tensor, *, refinements: int = 0, callback: Callback | None = None
) -> Tensor:
    """Return the noisy latent, sigma space at sigmas[0], [B, 4, H, W], that DDIM sampling takes back to `latent`.

    See `inversion_path`, whose first latent it is.
    """
    return inversion_path(unet, latent, sigmas, refinements=refinements, callback=callback).latents[0]


@torch.no_grad()
def inversion_path(
    unet: SplitUNet,
    latent: Tensor,
    sigmas: Tensor,
    *,
    refinements: int = 0,
    features: int = 0,
    callback: Callback | None = None,
) -> InversionPath:
    """Return a DDIM inversion with all its latents, and the tap's features at its `features` noisiest steps.

    latent: clean, in model units, [B, 4, H, W]. sigmas: descending, [k + 1], as `ddim_sigmas` gives them.
    As in DDIM inversion (Song et al. 2021, section 4.3) every step assumes that epsilon changes little between two
    noise levels: it is evaluated on the current latent at the next level. `refinements` repeats a step that many
    times with epsilon evaluated at the step's own result, which converges to the exact inverse of sampling.
    Raises DragNoiseError when `latent` or what comes of it is not finite.
    """
    check_sigmas(sigmas)
    check_finite(latent, "the VAE's encoder")
    levels = sigmas.flip(0).tolist()
    x = to_variance_exploding(latent, levels[0])
    latents, kept = [x], []
    for step, (sigma, sigma_next) in enumerate(pairwise(levels), 1):
        decoded = evaluate_ahead(unet, x, sigma, sigma_next)
        for _ in range(refinements):
            decoded = evaluate(unet, x + decoded.epsilon * (sigma_next - sigma), sigma_next)
        epsilon = decoded.epsilon
        x = x + epsilon * (sigma_next - sigma)
        latents.append(x)
        if len(levels) - step <= features:
            kept.append(decoded.feature)
        if callback:
            callback(Progress("inversion", step, len(levels) - 1, lambda x=x, e=epsilon, s=sigma_next: x - s * e))
    check_finite(x, "the inversion")
    return InversionPath(latents[::-1], kept[::-1])


def evaluate_ahead(unet: SplitUNet, x: Tensor, sigma: float, sigma_next: float, *, to_tap: bool = False) -> Decoded:
    """Return what the model makes of x, sigma space at `sigma`, [B, 4, H, W], at the higher level `sigma_next`."""
    # The model is told the next noise level, so it must see a latent of the next level's variance.
    return evaluate(unet, x * math.sqrt((1 + sigma_next**2) / (1 + sigma**2)), sigma_next, to_tap=to_tap)

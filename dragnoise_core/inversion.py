"""DDIM inversion: the noise from which sampling returns to a given picture."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from .progress import Callback, Progress
from .schedule import check_sigmas, to_variance_exploding
from .split_unet import SplitUNet, predict_epsilon


@torch.no_grad()
def invert(
    unet: SplitUNet, latent: Tensor, sigmas: Tensor, *, refinements: int = 0, callback: Callback | None = None
) -> Tensor:
    """Return the noisy latent, sigma space at sigmas[0], [B, 4, H, W], that DDIM sampling takes back to `latent`.

    See `inversion_path`, whose first latent it is.
    """
    return inversion_path(unet, latent, sigmas, refinements=refinements, callback=callback)[0]


@torch.no_grad()
def inversion_path(
    unet: SplitUNet, latent: Tensor, sigmas: Tensor, *, refinements: int = 0, callback: Callback | None = None
) -> list[Tensor]:
    """Return the latents of a DDIM inversion, sigma space, [B, 4, H, W] each, one for each of `sigmas`.

    latent: clean, in model units, [B, 4, H, W]. sigmas: descending, [k + 1], as `ddim_sigmas` gives them.
    As in DDIM inversion (Song et al. 2021, section 4.3) every step assumes that epsilon changes little between two
    noise levels: it is evaluated on the current latent at the next level. `refinements` repeats a step that many
    times with epsilon evaluated at the step's own result, which converges to the exact inverse of sampling.
    """
    check_sigmas(sigmas)
    levels = sigmas.flip(0).tolist()
    x = to_variance_exploding(latent, levels[0])
    path = [x]
    for step, (current, following) in enumerate(pairwise(levels), 1):
        # The model is told the next noise level, so it must see a latent of the next level's variance.
        seen = x * math.sqrt((1 + following**2) / (1 + current**2))
        epsilon = predict_epsilon(unet, seen, following)
        for _ in range(refinements):
            epsilon = predict_epsilon(unet, x + epsilon * (following - current), following)
        x = x + epsilon * (following - current)
        path.append(x)
        if callback:
            callback(Progress("inversion", step, len(levels) - 1, lambda x=x, e=epsilon, s=following: x - s * e))
    return path[::-1]

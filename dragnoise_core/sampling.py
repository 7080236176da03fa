"""DDIM sampling, with or without an edit."""

from itertools import islice, pairwise

import torch
from torch import Tensor

from .edit import DragEdit
from .finite import check_finite
from .progress import Callback, Progress
from .propagation import active_optimisation, check_schedule, correct, propagate
from .schedule import check_sigmas, to_variance_preserving
from .split_unet import SplitUNet


@torch.no_grad()
def sample(
    unet: SplitUNet,
    x: Tensor,
    sigmas: Tensor,
    *,
    edit: DragEdit | None = None,
    start: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Denoise `x` (sigma space at sigmas[start], [B, 4, H, W]) to the clean latent, [B, 4, H, W], in model units.

    sigmas: descending, [k + 1]. edit: its bottlenecks go to every step that its configuration names (`propagate`),
    its corrections to the predictions (`correct`).
    Raises DragNoiseError when the edit does not fit the model or the schedule, or the result is not finite.
    """
    check_sigmas(sigmas)
    if edit is not None:
        check_schedule(edit, sigmas)
        edit = edit.on(x.device)
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in islice(enumerate(pairwise(levels), 1), start, None):
        acts = edit is not None and active_optimisation(edit, sigma) is not None
        replaced = acts and edit.config.propagation == "replace"
        encoded = unet.encode(x, sigma, middle=not replaced)
        bottleneck = encoded.bottleneck if edit is None else propagate(edit, encoded.bottleneck, sigma)
        epsilon = unet.decode(encoded, bottleneck, to_tap=False).epsilon
        denoised = x - sigma * epsilon
        if edit is not None:
            corrected = correct(edit, denoised, sigma)
            denoised, epsilon = corrected, epsilon + (denoised - corrected) / sigma
        x = x + epsilon * (sigma_next - sigma)
        if callback:
            callback(Progress("sampling", step, len(levels) - 1, lambda denoised=denoised: denoised))
    return check_finite(to_variance_preserving(x, levels[-1]), "sampling")

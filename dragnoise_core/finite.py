"""Numbers that are not finite, named by where they came up."""

import torch
from torch import Tensor

from .errors import DragNoiseError

REMEDY = "use another checkpoint or VAE, or float32 (command line: --device cpu; ComfyUI: --fp32-unet, --fp32-vae)"


def check_finite(tensor: Tensor, place: str) -> Tensor:
    """Return `tensor`. Raises DragNoiseError, naming `place`, when it holds NaN or an infinity.

    Half precision overflows in some models' networks, and damaged files hold such numbers; either spreads to all that
    follows, so every part checks what it hands on. On a GPU the host waits for the result.
    """
    if not torch.isfinite(tensor).all():
        raise DragNoiseError(f"{place} gave numbers that are not finite; {REMEDY}.")
    return tensor

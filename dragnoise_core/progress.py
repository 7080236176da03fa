"""What a long phase tells its caller after every step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Phase = Literal["inversion", "optimisation", "sampling"]


@dataclass(frozen=True)
class Progress:
    """One step of one phase.

    step, total: steps done, 1 to total, and the most there can be (optimisation may stop early).
    points: handle points now, [N, 2] in image pixels, on the model's device; None outside the optimisation.
    loss: the step's loss, a scalar tensor on the model's device; None outside the optimisation.
    denoised: returns the current prediction of the clean latent, [B, 4, H, W]. It costs nothing until called.
    """

    phase: Phase
    step: int
    total: int
    denoised: Callable[[], Tensor]
    points: Tensor | None = None
    loss: Tensor | None = None


# Called after every step. Raising in it cancels the phase: nothing is kept and no state is left behind.
Callback = Callable[[Progress], None]

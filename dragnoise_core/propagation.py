"""Which steps get the optimised bottleneck, and how."""

from torch import Tensor

from .edit import DragEdit
from .errors import DragNoiseError

# Samplers round sigmas to float32, and multi-stage ones come close to a level: closer than this counts as equal.
TOLERANCE = 1e-4


def propagate(edit: DragEdit, own: Tensor, sigma: float) -> Tensor:
    """Return the bottleneck that a step at noise level `sigma` decodes, [B, C, h, w], in the dtype of `own`.

    own: the step's own bottleneck, [B, C, h, w]. Before the first optimised level and in the schedule's last
    `free_steps` steps it is returned as it is. Otherwise the latest optimisation at or above `sigma` counts:
    "replace" gives its bottleneck (DragNoise, section 3.4), "delta" adds the difference that it made.
    Raises DragNoiseError when the model's bottleneck has another shape than the edit's.
    """
    if own.shape[1:] != edit.bottlenecks.shape[1:]:
        raise DragNoiseError(
            f"the edit was made for a bottleneck of {_shape(edit.bottlenecks)}, this model at this picture size has "
            f"{_shape(own)}; use the model and the size that the edit was made with."
        )
    index = active_optimisation(edit, sigma)
    if index is None:
        return own
    return carry(edit.config.propagation, own, edit.bottlenecks[index], edit.originals[index])


def correct(edit: DragEdit, denoised: Tensor, sigma: float, strength: float = 1.0) -> Tensor:
    """Return a step's denoised latent at noise level `sigma`, [B, 4, H, W], with the edit's correction.

    denoised: the model's own prediction of the clean latent, in model units. Where no correction acts it is returned
    as it is; otherwise that of the nearest level at or above `sigma` is added, `strength` times. Raises DragNoiseError
    for another latent size.
    """
    if not len(edit.corrections) or active_optimisation(edit, sigma) is None:
        return denoised
    if denoised.shape[1:] != edit.corrections.shape[1:]:
        raise DragNoiseError(
            f"the edit was made for a latent of {_shape(edit.corrections)}, this one has {_shape(denoised)}; "
            "use the picture size that the edit was made with."
        )
    reached = _reached(edit.schedule[: len(edit.corrections)], sigma)
    return denoised + strength * edit.corrections[reached[-1]].to(denoised)


def carry(propagation: str, own: Tensor, optimised: Tensor, original: Tensor) -> Tensor:
    """Return what a step whose bottleneck is `own`, [B, C, h, w], gets from an optimisation of `original`.

    "replace": `optimised` itself, for every row. "delta": `own` plus the difference that the optimisation made.
    The result is a new, contiguous tensor in the dtype and on the device of `own`.
    """
    optimised, original = optimised.to(own), original.to(own)
    if propagation == "replace":
        return optimised.expand_as(own).clone()
    return own + (optimised - original)


def active_optimisation(edit: DragEdit, sigma: float) -> int | None:
    """Return which of the edit's optimisations acts at noise level `sigma`; None where none does.

    An edit whose points were at their targets from the start acts nowhere: not even "replace" may carry an unchanged
    bottleneck on.
    """
    if not edit.iterations:
        return None
    free = edit.config.free_steps
    if free and sigma <= float(edit.schedule[max(len(edit.schedule) - 1 - free, 0)]) * (1 + TOLERANCE):
        return None
    reached = _reached(edit.sigmas, sigma)
    return reached[-1] if reached else None


def check_schedule(edit: DragEdit, sigmas: Tensor) -> None:
    """Raise DragNoiseError unless every level at which the edit was optimised is one of `sigmas`."""
    levels = sigmas.double().cpu()
    for level in edit.sigmas.tolist():
        if (levels - level).abs().min() > TOLERANCE * level:
            raise DragNoiseError(
                f"the edit was optimised at sigma {level:.4f}, which the schedule from {levels[0]:.4f} to "
                f"{levels[-1]:.4f} does not visit; sample with the schedule that the edit was made with."
            )


def _reached(levels: Tensor, sigma: float) -> list[int]:
    return [index for index, level in enumerate(levels.tolist()) if sigma <= level * (1 + TOLERANCE)]


def _shape(rows: Tensor) -> str:
    return " x ".join(map(str, rows.shape[1:]))

"""Which models can be dragged: one list, for diffusers models and for ComfyUI's."""

import re

from .errors import DragNoiseError, quoted

LATENT_CHANNELS = 4
KINDS = {5: "a depth model", 7: "an upscaler", 8: "an instruction model", 9: "an inpainting model"}
REFINER = "an SDXL refiner, which finishes pictures and takes a score that no prompt gives"
_DISTILLED = re.compile(r"(?<![a-z])(turbo|lightning|lcm|hyper|dmd2?|tcd|pcm|flash)(?![a-z])", re.IGNORECASE)


def check_unet_kind(name: str, *, in_channels: int, has_middle: bool = True, upsamples: bool = True) -> None:
    """Raise DragNoiseError, naming model and kind, for a U-Net that cannot be dragged.

    A middle block without attention, as in SSD-1B and Segmind Vega, is a bottleneck like any other.
    """
    if in_channels != LATENT_CHANNELS:
        # The number is a stranger's, and may be none.
        kind = next((kind for channels, kind in KINDS.items() if channels == in_channels), "another kind of model")
        raise DragNoiseError(
            f"{name} is {kind}, its U-Net takes {quoted(in_channels)} channels; give one of {LATENT_CHANNELS}: "
            "a base model of SD 1.x, SD 2.x or SDXL."
        )
    if not has_middle or not upsamples:
        lack = "has no middle block" if not has_middle else "never upsamples"
        raise DragNoiseError(f"{name} has a U-Net that {lack}, so no bottleneck to drag; give SD 1.x, SD 2.x or SDXL.")


def check_conditions(name: str, *, only_prompts: bool) -> None:
    """Raise DragNoiseError unless the U-Net is told nothing but noise level, prompt and, SDXL's, the picture's size."""
    if not only_prompts:
        raise DragNoiseError(
            f"{name} takes conditions that no prompt gives, such as another picture's; give a base model of SD 1.x, "
            "SD 2.x or SDXL."
        )


def check_not_refiner(name: str, is_refiner: bool) -> None:
    """Raise DragNoiseError for SDXL's second model."""
    if is_refiner:
        raise DragNoiseError(f"{name} is {REFINER}; give the base model.")


def distilled_notice(*names: str) -> str | None:
    """Return what to expect of a model whose names say that it was distilled to a few steps; None for all others."""
    for name in names:
        if match := _DISTILLED.search(name):
            return (
                f"{name} is by its name distilled ({match[1]}) to sample in a few steps. It can be dragged, but its "
                "inversion returns to the picture only roughly: expect softer detail and changes beside the drag. "
                "The base model that it was made from does better."
            )
    return None

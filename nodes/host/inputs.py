"""Link types, and the inputs that several nodes share."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from comfy_api.latest import io

from ...dragnoise_core.acceleration import ACCELERATIONS
from ...dragnoise_core.configuration import CHOICES, PRESETS, RANGES, OptimisationConfig, preset
from ...dragnoise_core.errors import DragNoiseError

CATEGORY = "DragNoise"
DragPointsType = io.Custom("DRAG_POINTS")
DragEditType = io.Custom("DRAG_EDIT")
DragSettingsType = io.Custom("DRAG_SETTINGS")
CUSTOM = "custom"
STEPS = {"learning_rate": 0.001, "background": 0.01, "warp": 0.05}  # of the arrows in the browser
# The inputs' tooltips, one for every field of OptimisationConfig.
SETTINGS = {
    "iterations": "The most gradient steps to take in all.",
    "learning_rate": "Size of the gradient steps. Higher moves the points faster and disturbs the picture more.",
    "mask_weight": "How strongly the drag holds everything outside the mask still; 0 leaves the mask to background.",
    "drag_steps": "Denoising steps that are optimised, each with its share of the iterations; the paper's is 1.",
    "gradient_steps": "Gradient steps between two trackings of the points.",
    "supervision_radius": "Radius of the patches compared, or how far around a handle the picture moves with it, in "
    "cells of two pixels. Not used around points that move as one body.",
    "tracking_radius": "Radius of the window in which a point is searched, in cells of two pixels.",
    "step_length": "How far ahead of a point its patch should appear, in cells of two pixels.",
    "stop_distance": "A point nearer to its target than this has arrived, in cells of two pixels.",
    "propagation": "What later steps get: the optimised bottleneck (replace) or the difference that was made (delta).",
    "free_steps": "How many of the last steps run without the edit: more detail returns, less of the drag stays.",
    "descent": "Adam, or normalised gradient descent, which leaves alone what the drag does not touch.",
    "background": "Places that change less than this, in standard deviations of the latent, return to the unedited "
    "picture, and so does everything outside the mask. Higher leaves more of the picture as it was; 0 turns it off, "
    "and in DragNoise Edit also stops keeping the picture's own pixels.",
    "warp": "How much of its look the result takes from the picture warped along the motion, up to 1. DragNoise "
    "Optimize has no picture and warps its latent instead, which is softer.",
    "bottleneck_change": "The largest change of the bottleneck, relative to the bottleneck's own size; 0 sets no "
    "limit.",
    "supervision": "What is compared: patches at the points, in whole cells, as published, or dense, every place: "
    "what is near a handle moves with it, and more moves around points that move as one body.",
}


def advanced(*inputs: io.Input) -> list[io.Input]:
    """Return `inputs` marked so that the host folds them away until asked for."""
    for entry in inputs:
        entry.extra_dict = {**entry.extra_dict, "advanced": True}
    return list(inputs)


def acceleration_input() -> io.Input:
    """Return the choice between CUDA graphs and Python, the same in every node that runs the model."""
    return io.Combo.Input(
        "acceleration",
        options=list(ACCELERATIONS),
        default="auto",
        optional=True,
        tooltip="auto: CUDA graphs where they can be captured: several times faster on an NVIDIA GPU, slower only the "
        "first time. eager: never. cudagraph: always, or an error that says why not.",
    )


def low_memory_input() -> io.Input:
    """Return the choice of less memory, the same in every node that drags."""
    return io.Boolean.Input(
        "low_memory",
        default=False,
        optional=True,
        tooltip="Keeps less in memory during a gradient step and computes it again: slower, for small GPUs.",
    )


def schedule_inputs() -> list[io.Input]:
    """Return the two inputs that choose the schedule, the same in every node that inverts."""
    return [
        io.Int.Input("steps", default=50, min=1, max=500, tooltip="DDIM steps of the whole schedule; 50 as published."),
        io.Float.Input(
            "strength",
            default=0.7,
            min=0.05,
            max=1.0,
            step=0.01,
            tooltip="How far back to go: the share of the steps that is inverted and sampled again. Higher can change "
            "more.",
        ),
    ]


def noisy_inputs() -> list[io.Input]:
    """Return the two inputs for a noisy picture, the same in every node that takes one."""
    return [
        io.Latent.Input("latent", tooltip="The noisy latent, from DragNoise Invert or KSampler (Advanced)."),
        io.Sigmas.Input("sigmas", tooltip="The noise levels left to sample; the latent is at the first."),
    ]


def settings_input() -> io.Input:
    """Return the link to a Settings node, the same in every node that drags."""
    return DragSettingsType.Input(
        "settings", optional=True, tooltip="From DragNoise Settings. Without it the preset default is used."
    )


def preset_input() -> io.Input:
    """Return the choice of the preset, with the values that the browser fills into the other widgets."""
    entry = io.Combo.Input(
        "preset",
        options=["default", *(name for name in PRESETS if name != "default"), CUSTOM],
        default="default",
        tooltip="default: ours. paper: the published code's method and numbers. custom: the values below, as they are.",
    )
    entry.extra_dict = {"presets": {name: asdict(config) for name, config in PRESETS.items()}}
    return entry


def setting_input(name: str) -> io.Input:
    """Return the input for one setting."""
    shared = {"default": getattr(PRESETS["default"], name), "optional": True, "tooltip": SETTINGS[name]}
    if name in CHOICES:
        return io.Combo.Input(name, options=list(CHOICES[name]), **shared)
    low, high = RANGES[name]
    if isinstance(low, int):
        return io.Int.Input(name, min=low, max=high, **shared)
    return io.Float.Input(name, min=low, max=high, step=STEPS.get(name, 0.1), round=1e-6, **shared)


def read_settings(name: str, values: dict[str, Any]) -> OptimisationConfig:
    """Return a preset's settings, or `values` if it is "custom"; what is not among these is as in the preset default.

    Raises DragNoiseError for values out of range, and for one that differs from the preset's, since what a widget shows
    is what is used.
    """
    if name == CUSTOM:
        return preset("default", **values)
    wanted, chosen = preset(name), preset(name, **values)
    for setting in values:
        given, own = getattr(chosen, setting), getattr(wanted, setting)
        # Browsers round numbers.
        if given != own and (isinstance(own, str) or not math.isclose(given, own, rel_tol=1e-6)):
            raise DragNoiseError(
                f"{setting} is {given}, and in the preset {name!r} it is {own}; set preset to {CUSTOM!r} to use "
                f"{given}, or {setting} to {own}."
            )
    return wanted


def answer(check: Callable[..., Any], *values: Any) -> bool | str:
    """Return True, or what `check` has against the values, as the host wants to hear it before anything runs."""
    try:
        check(*values)
    except DragNoiseError as error:
        return str(error)
    return True


def picker_input(name: str, widget: str, optional: bool, tooltip: str) -> io.Input:
    """Return a string input that the browser's point picker writes."""
    entry = io.String.Input(name, default="", optional=optional, tooltip=tooltip)
    # Not `widget_type`: that would change the socket's type, and links from other nodes' strings would be refused.
    entry.extra_dict = {"widgetType": widget}
    return entry

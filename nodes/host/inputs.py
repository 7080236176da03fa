"""Link types, and the inputs that are alike in several nodes."""

from comfy_api.latest import io

from ...dragnoise_core.acceleration import ACCELERATIONS
from ...dragnoise_core.configuration import CHOICES, PRESETS, RANGES, OptimisationConfig, preset

CATEGORY = "DragNoise"
DragPointsType = io.Custom("DRAG_POINTS")
DragEditType = io.Custom("DRAG_EDIT")
AS_PRESET = "as preset"
# What the inputs say; there is one for every field of OptimisationConfig.
SETTINGS = {
    "iterations": "Gradient steps in all, at most.",
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
    "free_steps": "The last steps, which get nothing of the edit: more detail returns, less of the drag stays.",
    "descent": "Adam, or normalised gradient descent, which leaves alone what the drag does not touch.",
    "identity": "How much of its look every place takes from what it resembles in the unedited picture, up to 1. "
    "Higher stays nearer to the picture's own colours and detail.",
    "background": "Places that change less than this, in latent units, return to the unedited picture, and so does all "
    "that is outside the mask. Higher keeps more still, then swallows small moves; 0 turns it off, "
    "and in DragNoise Edit also the keeping of the picture's own pixels.",
    "supervision": "What is compared: patches at the points, in whole cells, as published, or dense, every place: "
    "those near a handle move with it, and more around points that move as one body.",
}
SHOWN_FIRST = ("iterations", "learning_rate", "mask_weight")


def advanced(*inputs: io.Input) -> list[io.Input]:
    """Return `inputs` marked so that the host folds them away until asked for."""
    for entry in inputs:
        entry.extra_dict = {**entry.extra_dict, "advanced": True}
    return list(inputs)


def acceleration_input() -> io.Input:
    """The choice between CUDA graphs and Python, alike in every node that runs the model."""
    return io.Combo.Input(
        "acceleration",
        options=list(ACCELERATIONS),
        default="auto",
        optional=True,
        tooltip="auto: CUDA graphs where they can be captured: several times faster on an NVIDIA GPU, the first time "
        "slower. eager: without. cudagraph: with, or an error that says why not.",
    )


def low_memory_input() -> io.Input:
    """The choice of less memory, alike in every node that drags."""
    return io.Boolean.Input(
        "low_memory",
        default=False,
        optional=True,
        tooltip="Keeps less in memory for every gradient step and computes it again: slower, for small GPUs.",
    )


def schedule_inputs() -> list[io.Input]:
    """The two inputs that choose the schedule, alike in every node that inverts."""
    return [
        io.Int.Input("steps", default=50, min=1, max=500, tooltip="DDIM steps of the whole schedule; 50 as published."),
        io.Float.Input(
            "strength",
            default=0.7,
            min=0.05,
            max=1.0,
            step=0.01,
            tooltip="How far back to go: the part of the steps inverted and sampled again. More can change more.",
        ),
    ]


def preset_input() -> io.Input:
    """The choice of the preset, alike in every node that drags."""
    return io.Combo.Input(
        "preset",
        options=["default", *(name for name in PRESETS if name != "default")],
        default="default",
        tooltip="default: ours. paper: the published code's method and numbers.",
    )


def setting_input(name: str) -> io.Input:
    """The input that overrides one setting of the preset."""
    default = getattr(OptimisationConfig(), name)
    if name in CHOICES:
        return io.Combo.Input(
            name, options=[AS_PRESET, *CHOICES[name]], default=AS_PRESET, optional=True, tooltip=SETTINGS[name]
        )
    tooltip = SETTINGS[name] + " -1: as the preset has it."
    high = RANGES[name][1]
    if isinstance(default, int):
        return io.Int.Input(name, default=-1, min=-1, max=high, optional=True, tooltip=tooltip)
    step = 0.001 if name == "learning_rate" else 0.1
    return io.Float.Input(name, default=-1.0, min=-1.0, max=high, step=step, round=1e-6, optional=True, tooltip=tooltip)


def read_config(name: str, settings: dict) -> OptimisationConfig:
    """Return the preset with every setting that is not -1 or "as preset" in its place."""
    return preset(name, **{key: value for key, value in settings.items() if value not in (-1, AS_PRESET)})


def picker_input(name: str, widget: str, optional: bool, tooltip: str) -> io.Input:
    """A string that the browser's point picker writes."""
    entry = io.String.Input(name, default="", optional=optional, tooltip=tooltip)
    # Not `widget_type`: that would change the socket's type, and links from other nodes' strings would be refused.
    entry.extra_dict = {"widgetType": widget}
    return entry

"""The drag itself: optimises the bottleneck until the points have moved."""

from dataclasses import fields

from comfy_api.latest import io
from torch import Tensor

from ..dragnoise_core.configuration import CHOICES, PRESETS, RANGES, OptimisationConfig, preset
from ..dragnoise_core.edit import DragEdit
from ..dragnoise_core.inversion import InversionPath
from ..dragnoise_core.optimisation import drag
from ..dragnoise_core.points import DragPoints
from .host.plain_unet import AUTOMATIC, Speed
from .host.progress import NodeProgress, describe, path_text, show_text
from .host.sampling import check_levels, check_model, drag_with
from .host.types import (
    CATEGORY,
    PATH,
    DragEditType,
    DragPointsType,
    acceleration_input,
    advanced,
    fitting_path,
    latent_samples,
    low_memory_input,
    one_mask,
)

AS_PRESET = "as preset"
# What the inputs say; there is one for every field of OptimisationConfig.
SETTINGS = {
    "iterations": "Gradient steps in all, at most.",
    "learning_rate": "Size of the gradient steps. Higher moves the points faster and disturbs the picture more.",
    "mask_weight": "How strongly the drag holds everything outside the mask still; 0 leaves the mask to background.",
    "drag_steps": "Denoising steps that are optimised, each with its share of the iterations; the paper's is 1.",
    "gradient_steps": "Gradient steps between two trackings of the points.",
    "template": "Which patch must appear ahead: the point's current one, or the original of the unedited picture.",
    "supervision_radius": "Radius of the patches compared, or about that of what a lattice moves along, in cells of "
    "two pixels.",
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
    "supervision": "What is compared: patches at the points, in whole cells, as published, or a lattice of all places, "
    "of which those near a handle move along, and more around points that move as one body.",
}
SHOWN_FIRST = ("iterations", "learning_rate", "mask_weight")


class DragNoiseOptimize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseOptimize",
            display_name="DragNoise Optimize",
            category=CATEGORY,
            description="Drags: optimises the output of the U-Net's middle block until what is at the handles is at "
            "the targets (DragNoise, CVPR 2024). Give the edit to DragNoise Sample or DragNoise Apply.",
            inputs=[
                io.Model.Input("model", tooltip="The same model as for the inversion."),
                io.Conditioning.Input(
                    "positive", tooltip="The same prompt as for the inversion; one for the whole picture."
                ),
                io.Latent.Input("latent", tooltip="The noisy latent, from DragNoise Invert or KSampler (Advanced)."),
                io.Sigmas.Input("sigmas", tooltip="The noise levels left to sample; the latent is at the first."),
                DragPointsType.Input("points", tooltip="What shall move where."),
                io.Mask.Input(
                    "mask", optional=True, tooltip="1 where the picture may change; any size. Without it all of it may."
                ),
                preset_input(),
                *(setting_input(name) for name in SHOWN_FIRST),
                *advanced(
                    *(setting_input(f.name) for f in fields(OptimisationConfig) if f.name not in SHOWN_FIRST),
                    acceleration_input(),
                    low_memory_input(),
                ),
            ],
            outputs=[
                DragEditType.Output(
                    "edit", display_name="edit", tooltip="The optimised bottlenecks and how they came about."
                ),
                io.String.Output("report", display_name="report", tooltip="Every point's way and the distance left."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model,
        positive,
        latent,
        sigmas,
        points,
        preset="default",
        mask=None,
        acceleration="auto",
        low_memory=False,
        **settings,
    ) -> io.NodeOutput:
        check_model(model)
        check_levels(sigmas, model)
        config = read_config(preset, settings)
        progress = NodeProgress(model, config.iterations, points, cls.hidden.unique_id)
        speed, samples = Speed(acceleration, low_memory), latent_samples(latent, model)
        path = InversionPath(latent[PATH]) if PATH in latent else None
        edit = run_optimisation(model, positive, samples, sigmas, points, mask, config, progress, speed, path)
        report = describe(edit)
        show_text(cls.hidden.unique_id, report)
        return io.NodeOutput(edit, report, ui=edit_ui(edit, report, points))


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


def run_optimisation(
    model,
    positive,
    samples: Tensor,
    sigmas: Tensor,
    points: DragPoints,
    mask,
    config: OptimisationConfig,
    progress,
    speed: Speed = AUTOMATIC,
    path: InversionPath | None = None,
) -> DragEdit:
    """Return the edit that drags `points` on the picture of the noisy latent `samples`, as the host scales it.

    path: of its inversion, see `run_inversion`.
    """
    found = []

    def body(unet, latent: Tensor, levels: Tensor) -> Tensor:
        way = fitting_path(path, latent, levels)
        dragged = drag(unet, latent, levels, points, mask=one_mask(mask), config=config, path=way, callback=progress)
        found.append(dragged.edit)
        return latent

    drag_with(model, positive, samples, sigmas, body, speed)
    return found[0]


def edit_ui(edit: DragEdit, report: str, points: DragPoints) -> dict[str, tuple[str, ...]]:
    """Return what the browser gets to see: the report, and for the picker the path over the picture of `points`."""
    path = path_text(edit.path, points.width, points.height)
    return {"text": (report,), "dragnoise_path": (path,)}

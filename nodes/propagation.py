"""The edit at work: a MODEL whose bottleneck is the optimised one, and sampling with it."""

from dataclasses import replace

from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io
from torch import Tensor

from ..dragnoise_core.configuration import OptimisationConfig
from ..dragnoise_core.edit import DragEdit
from ..dragnoise_core.inversion import InversionPath
from ..dragnoise_core.optimisation import drag
from ..dragnoise_core.points import DragPoints
from ..dragnoise_core.propagation import active_optimisation, check_schedule, correct, propagate
from ..dragnoise_core.sampling import sample
from ..dragnoise_core.schedule import to_variance_exploding
from .host.comfy_unet import KEY, middle_residual
from .host.plain_unet import AUTOMATIC, Speed
from .host.progress import NodeProgress
from .host.sampling import EDITED, check_kind, check_levels, check_model, denoise, drag_with, noise_table, runs_plainly
from .host.types import CATEGORY, DragEditType, acceleration_input, advanced, fitting_path, latent_samples, one_mask
from .optimisation import run_optimisation

RESIDUAL = "dragnoise_residual"


class DragNoiseApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseApply",
            display_name="DragNoise Apply",
            category=CATEGORY,
            description="Puts an edit on a MODEL, for any sampler node: from the edit's noise level on, the U-Net's "
            "middle block answers with the optimised output, for positive and negative prompts alike, and what keeps "
            "identity and background is added to the prediction.",
            inputs=[
                io.Model.Input("model", tooltip="The same model as for the optimisation."),
                DragEditType.Input("edit", tooltip="From DragNoise Optimize or DragNoise Load Edit."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much of the edit: 0 leaves the picture as it was, 1 is the whole edit.",
                ),
                io.Int.Input(
                    "free_steps",
                    default=-1,
                    min=-1,
                    max=1000,
                    optional=True,
                    tooltip="The last steps of the edit's schedule, which get nothing of the edit. -1: as edited.",
                ),
            ],
            outputs=[
                io.Model.Output("patched_model", display_name="model", tooltip="The model that carries the edit.")
            ],
        )

    @classmethod
    def execute(cls, model, edit, strength=1.0, free_steps=-1) -> io.NodeOutput:
        check_kind(model)
        return io.NodeOutput(apply_edit(model, with_free_steps(edit, free_steps), strength))


class DragNoiseSample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseSample",
            display_name="DragNoise Sample",
            category=CATEGORY,
            description="Samples the noisy latent to the edited picture with DDIM steps. Without an edit it returns "
            "the original picture, as well as the inversion can.",
            inputs=[
                io.Model.Input("model", tooltip="The same model as for the optimisation."),
                io.Conditioning.Input("positive", tooltip="The same prompt as for the inversion."),
                io.Latent.Input("latent", tooltip="The noisy latent, from DragNoise Invert or KSampler (Advanced)."),
                io.Sigmas.Input("sigmas", tooltip="The noise levels left to sample; the latent is at the first."),
                DragEditType.Input("edit", optional=True, tooltip="The drag. Without it: the unedited picture."),
                io.Conditioning.Input("negative", optional=True, tooltip="For guidance above 1."),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    optional=True,
                    tooltip="Guidance; needs a negative prompt. 1 keeps an inverted picture as it was.",
                ),
                *advanced(acceleration_input()),
            ],
            outputs=[
                io.Latent.Output(
                    "clean_latent",
                    display_name="latent",
                    tooltip="The edited picture, for VAE Decode. Sigmas that stop early leave it noisy, for a sampler "
                    "that continues there.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, latent, sigmas, edit=None, negative=None, cfg=1.0, acceleration="auto"
    ) -> io.NodeOutput:
        check_kind(model)
        check_levels(sigmas, model)
        if edit is not None:
            check_model(model)
            check_schedule(edit, sigmas)
        progress = NodeProgress(model, len(sigmas) - 1, edit.points if edit else None)
        samples = latent_samples(latent, model)
        if negative is None and runs_plainly(model, positive):
            clean = sample_plainly(model, positive, samples, sigmas, edit, progress, Speed(acceleration))
        else:
            model = model if edit is None else apply_edit(model, edit)
            clean = denoise(model, positive, samples, sigmas, negative=negative, cfg=cfg, callback=progress)
        return io.NodeOutput({"samples": clean})


def sample_plainly(
    model, positive, samples: Tensor, sigmas: Tensor, edit: DragEdit | None, progress, speed: Speed = AUTOMATIC
) -> Tensor:
    """Return what `denoise` returns of the model with the edit applied, where nothing but one prompt takes part."""

    def body(unet, latent: Tensor, levels: Tensor) -> Tensor:
        return ending(model, sample(unet, latent, levels, edit=edit, callback=progress), levels)

    return drag_with(model, positive, samples, sigmas, body, speed)


def ending(model, clean: Tensor, levels: Tensor) -> Tensor:
    """Return what sampling gave as a sampler node leaves it: noisy where the levels stop before the model's lowest."""
    last = float(levels[-1])
    return to_variance_exploding(clean, last) if last > noise_table(model)[0] * 1.001 else clean


def run_drag(
    model,
    positive,
    samples: Tensor,
    sigmas: Tensor,
    points: DragPoints,
    mask,
    config: OptimisationConfig,
    progress,
    speed: Speed,
    path: InversionPath,
) -> tuple[DragEdit, Tensor]:
    """Return the edit, as `run_optimisation` does, and the latent sampled with it."""
    if not runs_plainly(model, positive):
        edit = run_optimisation(model, positive, samples, sigmas, points, mask, config, progress, speed, path)
        progress.next_phase(config.iterations)
        return edit, denoise(apply_edit(model, edit), positive, samples, sigmas, callback=progress)
    found = []

    def body(unet, latent: Tensor, levels: Tensor) -> Tensor:
        way = fitting_path(path, latent, levels)
        dragged = drag(unet, latent, levels, points, mask=one_mask(mask), config=config, path=way, callback=progress)
        found.append(dragged.edit)
        progress.next_phase(config.iterations)
        # On from where the optimisation has walked to.
        clean = sample(unet, dragged.latent, levels, edit=dragged.edit, start=dragged.level, callback=progress)
        return ending(model, clean, levels)

    edited = drag_with(model, positive, samples, sigmas, body, speed)
    return found[0], edited


def with_free_steps(edit: DragEdit, free_steps: int) -> DragEdit:
    """Return the edit with its number of free steps changed, unless `free_steps` is -1."""
    return edit if free_steps < 0 else replace(edit, config=replace(edit.config, free_steps=free_steps))


def apply_edit(model, edit: DragEdit, strength: float = 1.0):
    """Return a clone of `model` that decodes the edit's bottleneck at the noise levels where the edit acts.

    Works by the host's own patch points, so that any sampler, guidance and other patches go with it. Every row of a
    batch gets the same, whatever its prompt; the edit's corrections are added to what the guidance makes of them.
    Raises DragNoiseError during sampling when the shapes do not fit.
    """
    clone = model.clone()

    def keep_residual(executor, x, timesteps, context, y, control, transformer_options, **others):
        options = {**transformer_options, RESIDUAL: middle_residual(control)}
        return executor(x, timesteps, context, y, control, options, **others)

    def replace_bottleneck(hidden: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        if options["block"] != ("output", 0):
            return hidden, skip
        sigma = float(options["sigmas"].max())
        if active_optimisation(edit, sigma) is None:
            return hidden, skip
        residual = options.get(RESIDUAL)
        own = hidden if residual is None else hidden - residual
        edited = propagate(edit, own, sigma)
        if strength != 1:
            edited = own + strength * (edited - own)
        return (edited if residual is None else edited + residual), skip

    def correct_prediction(arguments: dict) -> Tensor:
        return correct(edit, arguments["denoised"], float(arguments["sigma"].max()), strength)

    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, keep_residual)
    clone.set_model_output_block_patch(replace_bottleneck)
    if len(edit.corrections):
        clone.set_model_sampler_post_cfg_function(correct_prediction)
    clone.model_options["transformer_options"][EDITED] = True
    return clone
